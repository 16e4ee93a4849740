"""Programs of their own, one for each kind of device: what the device gives goes to stdout. The server never imports them."""
