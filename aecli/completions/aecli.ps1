# Completion of aecli for PowerShell. The program itself is asked, so the answers are its own.
Register-ArgumentCompleter -Native -CommandName aecli -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $line = $commandAst.ToString()
    if (-not $wordToComplete) { $line += ' ' }
    $env:_AECLI_COMPLETE = $line
    try {
        aecli 2>$null | ForEach-Object {
            $word, $meaning = $_ -split "`t", 2
            if (-not $meaning) { $meaning = $word }
            $quoted = if ($word -match '[^\w./:~=-]') { "'" + $word.Replace("'", "''") + "'" } else { $word }
            [System.Management.Automation.CompletionResult]::new($quoted, $word, 'ParameterValue', $meaning)
        }
    } finally {
        Remove-Item Env:_AECLI_COMPLETE
    }
}
