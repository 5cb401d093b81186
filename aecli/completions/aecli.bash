# Completion of aecli for bash 4.4 and later. The program itself is asked, so the answers are its own.
_aecli() {
    local line=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[!:=]/} typed answer
    COMPREPLY=()
    if [[ ${COMP_WORDS[COMP_CWORD - 1]} == *[\<\>]* || ${COMP_WORDS[COMP_CWORD]} == *[\<\>\$]* ]]; then
        compopt -o default # a redirection, or a variable: bash completes these itself
        return
    fi
    typed=${line//\\ /$'\1'}
    typed=${typed##*[[:space:]]}
    typed=${typed%"${typed##*["$breaks"]}"} # of mnist:te and --label=ki, bash replaces te and ki alone
    typed=${typed//$'\1'/ }
    while IFS=$'\t' read -r answer _; do
        answer=${answer#"$typed"}
        [[ $answer != *[!a-zA-Z0-9:=_-]* ]] || compopt -o filenames # that is, quote what needs quotes
        COMPREPLY+=("${answer%/}") # bash itself marks what is a folder
    done < <(_AECLI_COMPLETE=$line "$1" 2> /dev/null)
}
complete -F _aecli aecli
