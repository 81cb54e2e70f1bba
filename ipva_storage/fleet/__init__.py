"""Many VMs looked at together."""
