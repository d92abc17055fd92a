# Become a process of ours with the variables of a file: with_variables.sh FILE COMMAND...
. "$1"
shift
exec "$@"
