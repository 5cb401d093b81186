# Completion of aecli for fish. The program itself is asked, so the answers are its own.
function __aecli_complete
    set --local line (commandline --current-process --cut-at-cursor | string collect)
    _AECLI_COMPLETE=(string replace --regex '^.*?(?=aecli\s)' '' -- $line) aecli 2>/dev/null
end
complete --command aecli --no-files --arguments '(__aecli_complete)'
