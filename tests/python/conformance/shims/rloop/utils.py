# SPDX-License-Identifier: MIT
import socket

_HAS_IPv6 = socket.has_ipv6
