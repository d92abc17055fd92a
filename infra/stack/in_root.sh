# Become a server inside its root folder: in_root.sh ROOT DATA UID:GID COMMAND...
# Runs in a mount namespace of its own, so the mounts vanish with the process, however it ends, and several stacks
# share one root. Every step is an exec: the supervisor's child is the server itself.
root=$1 data=$2 user=$3
shift 3
if [ "$root" != / ]; then
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
fi
mount --bind "$data" "$root/mnt"
exec chroot --userspec="$user" --groups= "$root" "$@"
