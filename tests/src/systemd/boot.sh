# Boots a systemd of its own over a throw-away copy of a root: this host's, or another.
#
# Runs in a mount namespace of its own, so that all it mounts goes when the last process in it does.
# Arguments: an empty directory, the machine's name, the root, the cgroups to run in.
set -e
fs=$1 name=$2 lower=$3
shift 3
for cgroup in "$@"; do echo $$ > "$cgroup/cgroup.procs"; done

mount -t tmpfs -o mode=0755 tmpfs "$fs"
mkdir "$fs/upper" "$fs/work" "$fs/root"
root=$fs/root
# What a daemon of this host keeps is not for one in the lab. It may write there meanwhile, so it is hidden by whiteouts of the
# overlay, not removed.
for kept in var/lib/hostprobe var/log/hostprobe etc/hostprobe; do
    mkdir -p "$fs/upper/${kept%/*}"
    mknod "$fs/upper/$kept" c 0 0
done
mount -t overlay -o "lowerdir=$lower,upperdir=$fs/upper,workdir=$fs/work" overlay "$root"

# What this host has enabled must not start a second time.
units=$root/etc/systemd/system
rm -rf "$units" "$root/etc/systemd/system.conf.d" "$root/etc/systemd/system.control"
mkdir -p "$units"
lib=$root/usr/lib/systemd/system
for wanted in "$lib"/sysinit.target.wants/* "$lib"/local-fs.target.wants/*; do
    [ -e "$wanted" ] || [ -L "$wanted" ] || continue
    ln -sf /dev/null "$units/${wanted##*/}"
done
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    ln -sf /dev/null "$units/$unit"
done
printf '[Unit]\nDescription=Nothing to set up\n' > "$units/sysinit.target"
printf '[Unit]\nRequires=dbus.socket\nWants=dbus.service\nAfter=dbus.service\n' > "$units/lab.target"

# To load eBPF programs, to see the kernel's symbols and to read the clock's state takes what a container does not have by itself.
exec /usr/bin/systemd-nspawn --capability=CAP_BPF,CAP_PERFMON,CAP_SYSLOG \
    --system-call-filter="bpf adjtimex clock_adjtime" \
    --quiet --settings=no --register=no --keep-unit --console=pipe \
    --notify-ready=yes --link-journal=no --resolv-conf=off --timezone=off \
    --directory="$root" --machine="$name" --boot \
    systemd.unit=lab.target systemd.show_status=no systemd.log_target=null
