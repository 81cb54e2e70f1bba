"""VMDK files as block devices."""
