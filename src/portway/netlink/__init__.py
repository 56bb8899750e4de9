"""Netlink: how a program tells the kernel about tables, links and routes, without a helper binary.

`codec` packs and unpacks messages and attributes (pure); `socket` sends requests and turns the kernel's answers into
values or `NetlinkError`; `namespace` opens a socket inside another network namespace. `nft` and `netns` sit on it.
The formats are those of the kernel's include/uapi/linux/netlink.h (RFC 3549 describes the protocol).
"""
