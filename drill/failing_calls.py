"""Which of the journal's calls fail, by what they are for: orders to a failing disk."""

from drill.failing import Order

ERRORS = ("EIO", "ENOSPC")

MAKING = {
    "opening a draft": [Order("open", "draft")],
    "locking it": [Order("flock", "draft")],
    "reserving its space": [Order("fallocate", "draft")],
    "writing its header": [Order("write", "draft")],
    "half of its header": [Order("write", "draft", how="short")],
    "syncing it": [Order("fsync", "draft")],
    "linking it": [Order("link", "segment")],
    "linking it, which is done": [Order("link", "segment", how="after")],
    "removing its draft name": [Order("unlink", "draft")],
    "removing its draft name for good": [Order("unlink", "draft", times=2)],
    "opening the directory": [Order("open", "directory")],
    "syncing the directory": [Order("fsync", "directory")],
    "syncing the directory and taking back": [
        Order("fsync", "directory"),
        Order("stat", "segment"),
    ],
}
WRITING = {
    "a write": [Order("writev", "segment")],
    "two writes": [Order("writev", "segment", times=2)],
    "a write, which is done": [Order("writev", "segment", how="after")],
    "half a write": [Order("writev", "segment", how="short")],
    "half a write, twice": [Order("writev", "segment", how="short", times=2)],
    "half a write and the cut": [
        Order("writev", "segment", how="short"),
        Order("ftruncate", "segment"),
    ],
    "half a write and removing what is empty": [
        Order("writev", "segment", how="short", times=3),
        Order("unlink", "segment"),
    ],
}
SHIPPING = {
    "syncing what lags": [Order("fdatasync", "segment")],
    "reading for a parcel": [Order("pread", "segment")],
    "deleting what is booked": [Order("unlink", "segment")],
    "measuring the directory": [Order("scandir", "directory", times=3)],
}
ADOPTING = {
    "listing the directory": [Order("listdir", "directory")],
    "opening a file of the dead": [Order("open", "segment", skip=1)],
    "locking a file of the dead": [Order("flock", "segment", skip=1)],
    "comparing it with its name": [Order("stat", "segment", skip=1)],
    "measuring a file of the dead": [Order("fstat", "segment", skip=5)],
    "reading a header of the dead": [Order("pread", "segment", skip=1)],
    "removing a draft of the dead": [Order("unlink", "draft")],
    "setting damage aside": [Order("rename", "segment")],
}

INJECTED = {
    "openat": ("EIO", 4, 61),
    "flock": ("EIO", 3, 13),
    "fallocate": ("ENOSPC", 2, 11),
    "fsync": ("EIO", 5, 17),
    "fdatasync": ("EIO", 2, 7),
    "link": ("EIO", 4, 19),
    "unlink": ("EIO", 3, 9),
    "writev": ("ENOSPC", 6, 37),
    "ftruncate": ("EIO", 2, 3),
    "pread64": ("EIO", 3, 43),
    "rename": ("EIO", 1, 2),
}
"""System calls, each with its error, by when it comes at the latest, and then every so often."""
