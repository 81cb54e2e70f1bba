"""The appliance's configuration file."""
