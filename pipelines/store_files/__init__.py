"""The files of a store: digests that vouch for them, the card, the shards, and the check of all of them."""
