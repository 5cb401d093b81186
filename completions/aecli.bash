# Completion of aecli for bash 4.4 and later. The program itself is asked, so the answers are its own.
_aecli() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" _AECLI_COMPLETE=complete_bash "$1" 2> /dev/null)
}
complete -o default -o bashdefault -F _aecli aecli
