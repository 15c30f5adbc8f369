"""The soak: a desk of two strategies trades thousands of ticks at the exchange on loopback, while everything goes wrong at random.

Answers are lost, late, cut, old, nonsense or lack a field; ticks are killed at any call, delivered twice, twice at once, late, out of
order, or never. After each tick the ledger, in memory or in DynamoDB, is held against the account, on spot, contracts or Roostoo;
``checks`` says what has to hold, ``variants`` which desks there are. Everything follows from the seed: ``python -m tests.soak --seed 3
--variant market --ticks 412`` runs up to a failure again, ``--without kill,stale`` leaves faults out, to find the one that it takes.
"""
