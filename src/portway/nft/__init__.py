"""nftables as data: what a table contains, how it changes, how a packet walks through it. No Kubernetes word here.

`tables` is the vocabulary (a `Ruleset` is a frozen value), `transaction` the difference of two rulesets, `text` prints
either as `nft -f` reads it, `walk` steps a packet through a ruleset. `kernel` and `fake` implement the same `Nft`
protocol (`protocol.py`): one gives transactions to the kernel over netlink, the other keeps them in memory; one contract
test holds both to the same behaviour. `wire` (with `elements`, `expressions`, `udata`, `values`) encodes our vocabulary as
nf_tables messages, `decode` and `decode_rules` read them back, `canonical` is the spelling in which a table comes back, and
`features` says what this kernel lacks.
"""
