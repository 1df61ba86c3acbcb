"""What DPP has to do with systemd: what it tells it, the sockets it gets, the units it installs."""
