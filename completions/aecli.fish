# Completion of aecli for fish. The program itself is asked, so the answers are its own.
function __aecli_complete
    set -lx _AECLI_COMPLETE complete_fish
    set -lx _TYPER_COMPLETE_FISH_ACTION get-args
    set -lx _TYPER_COMPLETE_ARGS (commandline -cp)
    aecli 2>/dev/null
end
complete --command aecli --arguments '(__aecli_complete)'
