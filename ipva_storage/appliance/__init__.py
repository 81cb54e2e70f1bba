"""The virtual machine: its .vmx, its four disks, power and the boot trace."""
