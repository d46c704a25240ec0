"""The whole gateway, and everything that can go wrong with it, drawn from one number.

    fate     what happens in one seed, as one frozen structure      `Fate`, `drawn`
    meters   the meters of it: of every quirk, honest ones, broadcast, optical, ciphered
    witness  looks on at every step, and knows what may never be    `Witness`
    told     the same of what the head-end hears
    nonces   the same of what was ever ciphered
    ends     what must be true when everything has ended
    play     plays one                                              `play`
    run      many, in parallel processes, or one to look at         `make simulate`

The same seed is the same run, to the octet and the virtual microsecond.
"""
