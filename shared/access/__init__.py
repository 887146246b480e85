"""Who may do what, who did it, and what of a name is shown.

    roles         the twelve roles                       actor         who is asking
    policy        the one matrix: role x permission x ward of duty, denied by default (S1)
    tokens        how that is proven: signed short-lived tokens, verified offline
    keys          the keys they are signed with: two valid at once, changed while running (S9)
    masking       names and identifiers as they may be shown (S6)
    audit         one row for every read of patient data and every write (S3)
    seal          the hash chain over those rows, and its verification (S3)
    audit_door    the door to the trail; the only module here that knows the web
    private_file  files only their owner may read (S9)

No hospital rules beyond access live here, and no names: only admission has those.
"""
