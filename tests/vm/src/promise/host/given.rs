//! What a host can give that must have no effect, all at once, and how each is seen in the guest.

use std::time::Duration;

use rempart_harness::efi::{Guid, Nvram, partitioned_disk, utf16};

use crate::{
    node::Node,
    stage::{Boot, Stage, base64},
};

/// One way.
pub struct Way {
    /// Row name.
    pub name: &'static str,
    /// Prints something when it arrived in the guest: else its having no effect would prove nothing.
    pub arrived: &'static str,
    /// Prints something when it had an effect.
    pub effect: &'static str,
    /// It has an effect in an image without the arguments that `rempart policy predict` demands.
    pub works_without_arguments: bool,
}

// Discoverable Partitions Specification.
const ROOT: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const SRV: &str = "3B8F8425-20E0-4F3B-907F-1A25A76F98E8";
const VAR: &str = "4D21B016-B534-45C2-A9FB-5C16E091FD2D";
const UUID: &str = "11111111-2222-4333-8444-555555555555";

/// All of them, in the order of docs/host-configuration.md.
pub const WAYS: &[Way] = &[
    Way {
        name: "credentials_by_smbios",
        arrived: "ls -d /sys/firmware/dmi/entries/11-0",
        effect: "ls /run/host-credential-ran /run/credentials/@system 2>/dev/null",
        works_without_arguments: true,
    },
    Way {
        name: "credentials_by_fw_cfg",
        arrived: "ls -d /sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials",
        effect: "ls /run/credentials/@system/motd 2>/dev/null",
        // The kernel's module for fw_cfg is not in this image's initrd, so PID 1 finds nothing there either way.
        works_without_arguments: false,
    },
    Way {
        name: "arguments_by_efi_variable",
        arrived: "ls /sys/firmware/efi/efivars/SystemdOptions-*",
        effect: "systemctl show-environment | grep HOST_VARIABLE; systemctl is-active debug-shell.service | grep -x active; \
                 systemctl is-enabled demo-web-twin.service | grep masked",
        works_without_arguments: true,
    },
    Way {
        name: "hibernation",
        arrived: "ls /sys/power/resume",
        effect: "grep -w disk /sys/power/state",
        works_without_arguments: true,
    },
    Way {
        name: "disk_with_well_known_partitions",
        arrived: "ls -d /dev/disk/by-id/virtio-more0-part5",
        effect: "grep virtio-more0 /proc/swaps; findmnt -rn -S \"$(readlink -f /dev/disk/by-id/virtio-more0-part2)\"; \
                 d=$(basename \"$(readlink -f /dev/disk/by-id/virtio-more0)\"); grep $d /proc/swaps /proc/mounts",
        works_without_arguments: false,
    },
    Way {
        name: "arguments_for_another_boot_loader",
        arrived: "ls -d /sys/firmware/dmi/entries/11-0",
        effect: "grep -o host_boot_loader=1 /proc/cmdline",
        works_without_arguments: false,
    },
    Way {
        name: "boot_loader_variables",
        arrived: "ls /sys/firmware/efi/efivars/LoaderEntryOneShot-*",
        effect: "grep -o host-entry /proc/cmdline",
        works_without_arguments: false,
    },
    Way {
        name: "console_of_the_host",
        arrived: "ls /dev/hvc0",
        effect: "systemctl list-units --no-legend --state=active '*getty*'; find /proc/[0-9]*/fd -lname /dev/hvc0 2>/dev/null",
        works_without_arguments: false,
    },
    Way {
        name: "provisioning_by_fw_cfg_and_serial_number",
        arrived: "ls -d /sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos; grep nocloud /sys/class/dmi/id/product_serial",
        effect: "ls -d /run/ignition* /run/cloud-init 2>/dev/null",
        works_without_arguments: false,
    },
    Way {
        name: "names_of_the_hardware",
        arrived: "systemd-detect-virt | grep amazon",
        effect: "grep -i -o amazon /proc/cmdline /etc/machine-info /etc/hostname 2>/dev/null",
        works_without_arguments: false,
    },
    Way {
        // The machine-id follows it; nothing of ours may: that the node is let in under its own name is the proof.
        name: "uuid",
        arrived: "grep -x 11111111222243338444555555555555 /etc/machine-id",
        effect: "rempart status --json | grep -o 11111111-2222-4333",
        works_without_arguments: false,
    },
    Way {
        name: "devices",
        arrived: "ls -d /sys/bus/acpi/devices/QEMUVGID:00 /sys/bus/acpi/devices/QEMU0001:00",
        // Devices act through udev, by a unit that is wanted for them. No answer of udev would prove nothing, so it counts as an effect.
        effect: "for d in QEMUVGID:00 QEMU0001:00; do \
                 p=$(udevadm info --query=property --path=\"$(readlink -f /sys/bus/acpi/devices/$d)\" 2>&1) || echo \"$d: $p\"; \
                 echo \"$p\" | grep WANTS; done; \
                 systemctl list-units --all --no-legend | grep -i -e pvpanic -e vmgenid -e QEMUVGID -e QEMU0001",
        works_without_arguments: false,
    },
];

/// Types on the console what only a shell answers.
pub fn has_shell_on_console(node: &Node) -> anyhow::Result<bool> {
    node.answers_on_console("echo host-$((40+2))", "host-42", Duration::from_secs(15))
}

/// A boot with all of them.
pub fn everything(stage: &Stage) -> anyhow::Result<Boot> {
    let folder = stage.scratch("given")?;
    let variables = folder.join("variables.fd");
    let mut nvram = Nvram::open(&stage.image().firmware("VARS"))?;
    let options = "systemd.mask=demo-web-twin.service systemd.debug_shell systemd.default_debug_tty=ttyS0 \
                   systemd.setenv=HOST_VARIABLE=1 \
                   systemd.import_credentials=yes systemd.gpt_auto=yes";
    nvram.set(Guid::SYSTEMD, "SystemdOptions", &utf16(options))?;
    nvram.set(Guid::LOADER, "LoaderEntryOneShot", &utf16("host-entry.conf"))?;
    nvram.set(Guid::LOADER, "LoaderEntryDefault", &utf16("host-entry.conf"))?;
    nvram.write(&variables)?;

    let disk = folder.join("disk.img");
    partitioned_disk(&disk, &[ROOT, "home", SRV, VAR, "swap", "uefi"])?;

    let mut smbios = credentials();
    smbios.push("io.systemd.boot.kernel-cmdline-extra=host_boot_loader=1".into());
    Ok(Boot {
        smbios,
        fw_cfg: vec![
            ("opt/io.systemd.credentials/motd".into(), "host-was-here".into()),
            (
                "opt/com.coreos/config".into(),
                r#"{"ignition":{"version":"3.4.0"}}"#.into(),
            ),
        ],
        variables: Some(variables),
        disks: vec![disk],
        ..Boot::default()
    }
    .give(&["-uuid", UUID])
    .give(&[
        "-smbios",
        "type=1,manufacturer=Amazon EC2,product=host,serial=ds=nocloud;s=http://10.0.2.100/",
    ])
    .give(&["-smbios", "type=3,manufacturer=host"])
    .give(&["-chardev", "null,id=host", "-device", "virtconsole,chardev=host"])
    .give(&["-device", "pvpanic", "-device", "vmgenid,guid=auto"]))
}

/// Credentials that make systemd run a unit of the host's, as root.
pub fn credentials() -> Vec<String> {
    vec![
        credential("systemd.extra-unit.host-evil.service", UNIT),
        credential(
            "systemd.unit-dropin.sysinit.target",
            "[Unit]\nWants=host-evil.service\n",
        ),
    ]
}

const UNIT: &str =
    "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/touch /run/host-credential-ran\n";

fn credential(name: &str, text: &str) -> String {
    format!("io.systemd.credential.binary:{name}={}", base64(text.as_bytes()))
}
