# Completion of aecli for PowerShell. The program itself is asked, so the answers are its own.
Register-ArgumentCompleter -Native -CommandName aecli -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $env:_AECLI_COMPLETE = 'complete_powershell'
    $env:_TYPER_COMPLETE_ARGS = $commandAst.ToString()
    $env:_TYPER_COMPLETE_WORD_TO_COMPLETE = $wordToComplete
    try {
        aecli 2>$null | ForEach-Object {
            $value, $help = $_ -split ':::', 2
            if (-not $help.Trim()) { $help = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_AECLI_COMPLETE, Env:_TYPER_COMPLETE_ARGS, Env:_TYPER_COMPLETE_WORD_TO_COMPLETE
    }
}
