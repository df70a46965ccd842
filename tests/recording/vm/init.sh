#!/bin/busybox sh
# The guest's first program, in the initramfs: mounts the root and switches to it. See mod.rs.
b=/bin/busybox

$b mount -t devtmpfs devtmpfs /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
for module in /modules/*; do
    $b insmod "$module"
done

$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 root /host
$b mount -t tmpfs tmpfs /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /root
for directory in dev proc sys; do
    $b mount --move /$directory /root/$directory
done
$b mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
$b mount -t tmpfs -o mode=755 tmpfs /root/run
$b mkdir /root/run/disk
$b mount -t ext4 /root/dev/vda /root/run/disk

$b cp /command.sh /root/run/
exec $b switch_root /root $b sh /run/command.sh
