"""An attack on everything that keeps files: kills, damaged files, other settings, two at once, full disks

    pytest tests                 # a small part of it, seeds fixed, under a minute
    pytest -m faults             # all of it, about half an hour on one core; prints counts at the end
    pytest -m faults --faults-json counts.json

How it is built: `zygote` imports everything once and forks, so that a child starts in milliseconds. `world` makes tiny data,
experts and a teacher. `commands` lists what is run: add a function with `@command` and it is killed, signalled, run on a full disk and
under every umask. `files` lists what is read: add a class with `@file_type` and it is damaged in a hundred ways by `damage`.
`stale` is a table of settings before and after. `watch` counts file operations and dies, or fails, at one of them. `leaves` turns
results and folders into hashes that can be compared. `tally` counts, `python -m faults.again` repeats one damaged file.

What it cannot show: a kill here is a process that ends at once; what a power cut does to writes that were not synced is not tried.
"""
