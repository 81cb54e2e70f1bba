"""FAT volumes on block devices."""
