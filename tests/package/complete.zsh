# What an interactive zsh on a terminal of its own makes of `meter-gateway cam` and one TAB.
zmodload zsh/zpty
export TERM=xterm
zpty shell zsh -f -i
zpty -w shell 'PROMPT=; autoload -Uz compinit; compinit -u -D; print REA""DY'
zpty -r shell said '*READY*'
zpty -w -n shell $'meter-gateway cam\t'
zpty -r shell said '*campaign*' && print -r -- "$said"
