"""Every bound on what a user, a file or a peer can make grow, with its reason.

Limits that can void a record belong to the record format's version: two machines that disagreed
on them would disagree on the state, so they never change within a version.
"""

from __future__ import annotations

# --- part of record format 1: a record beyond these is void everywhere ---

#: A configuration value is read and typed by people; 64 KiB is a long certificate chain.
VALUE_BYTES_MAX = 64 * 1024
#: Nesting of a JSON value: readers recurse, and every reader must get through.
JSON_DEPTH_MAX = 64
#: A path must fit on a screen and in an Automerge key that is written with every change.
PATH_BYTES_MAX = 1024
#: One event may replace a whole appliance's configuration; Postfix has about a thousand settings.
WRITES_PER_EVENT_MAX = 20_000
#: A write replaces what stands: more than this many concurrent writers of one setting is a fault.
REPLACED_PER_WRITE_MAX = 1024
#: A record names at most the newest record of every other feed.
AFTER_MAX = 4096
#: An envelope must be hashed, parsed and held in memory at once. Its author counts the secrets beside it too.
ENVELOPE_BYTES_MAX = 8 * 1024 * 1024
#: What an event says of itself besides its writes: names and counts.
PARAMS_BYTES_MAX = 256 * 1024
#: Brackets in it, those in its texts included: a list of nothing takes 30 times as much memory as it has bytes.
PARAMS_BRACKETS_MAX = 256
#: A comment is a few sentences. A user's name and the word for how it was authenticated are shorter.
COMMENT_BYTES_MAX = 4096
#: The longest timer, milliseconds: what is to go back by itself next year is forgotten by then.
TIMER_MAX_MS = 366 * 24 * 3600 * 1000
#: The end of the year 9999 in milliseconds: calendars stop there.
TIME_MAX = 253_402_300_799_999
#: The same as hybrid time, shifted by the 12 bits of the logical counter. Beyond it a record may only be one more than
#: what it came after: whoever claims the end of the calendar cannot stop anybody's clock.
HYBRID_MAX = TIME_MAX << 12

# --- this machine's own business: may differ between machines and versions ---

#: Names are shown in tables, prompts and file names; host names have this bound from DNS.
NAME_CHARS_MAX = 253
#: Ports where a machine listened before: whoever was away during the change looks there, or is looked for there.
FORMER_PORTS_MAX = 4
#: The commands of a draft are one event some day, and each keeps what stood in the registers that it writes.
DRAFT_BYTES_MAX = 8 * ENVELOPE_BYTES_MAX
#: A configuration file is read into memory whole.
CONFIG_FILE_BYTES_MAX = 32 * 1024 * 1024
#: What a backup says of itself: a dozen names, numbers and hashes, and as many again for each person's draft.
BACKUP_MANIFEST_BYTES_MAX = 1024 * 1024
#: One frame of a session: the largest envelope, its secrets, and room to spare.
FRAME_BYTES_MAX = 16 * 1024 * 1024
#: A batch of records is gathered up to this many bytes, secrets included, before it is sent.
BATCH_BYTES_TARGET = 256 * 1024
#: ... and up to this many records, so that admitting it does not hold the event loop for long.
BATCH_RECORDS_MAX = 500
#: Records under one seal, with the secrets beside them, go out in one batch: its target, and a record that overshoots.
RUN_BYTES_MAX = BATCH_BYTES_TARGET + ENVELOPE_BYTES_MAX
#: Records decided together and appended under one seal.
GROUP_COMMIT_MAX = 256
#: Records under one seal: several times what is decided together. Whoever has a part of a run needs the rest at once.
RUN_RECORDS_MAX = 4 * GROUP_COMMIT_MAX
#: Records in one message: a batch that ends with the longest run.
MESSAGE_RECORDS_MAX = BATCH_RECORDS_MAX + RUN_RECORDS_MAX
#: Entries of a version vector. Of more feeds and branches than this a machine tells the newest; others may then send it
#: again what it has, which does no harm.
VECTOR_LEAVES_MAX = 16_384
#: A word of connstatus, and any other single word that a peer says.
WORD_CHARS_MAX = 64
#: What a peer gives as its reason: a sentence or two.
REASON_CHARS_MAX = 1024
#: Messages waiting for a peer that does not take what it is sent. A peer that keeps to the protocol is owed a window of
#: batches, as many acknowledgements, and a few words.
OUTBOX_MESSAGES_MAX = 64
#: A peer that says no hello, or acknowledges nothing of what it was sent, for so many seconds loses the link. On the
#: slowest line that carries the largest record in this time, 35 kB arrive in a second.
PEER_PATIENCE_S = 240.0
#: In a large fleet, how long the one of two linked machines that waits leaves it to others to bring the other one a
#: record, seconds: longer than records take through the whole fleet.
RELAY_PATIENCE_S = 1.0
#: One line of the local socket: a loaded configuration file and its quoting.
REQUEST_BYTES_MAX = 2 * CONFIG_FILE_BYTES_MAX
#: Public keys of one user: every device of a person, twice over; each is compared at a login.
KEYS_PER_USER_MAX = 32
#: People at the command line over SSH at once, each with a process of some 60 MB, and of these of one user.
LOGINS_MAX = 16
LOGINS_PER_USER_MAX = 8
#: How long nobody may type and nothing may be shown until a login ends, seconds: a coffee, not a night.
LOGIN_IDLE_S = 15 * 60.0
#: Open Automerge documents; the least recently used one is saved and closed beyond this.
DOCUMENTS_OPEN_MAX = 64
#: Bytes of changes behind a document's saved form, some 250, before it is saved again: they are applied, in two
#: milliseconds, whenever it is opened.
DOCUMENT_TAIL_BYTES = 64 * 1024
#: How long a replaced secret's value is kept, milliseconds: a month to take a change back.
SECRETS_KEPT_MS = 30 * 24 * 3600 * 1000

assert VALUE_BYTES_MAX < ENVELOPE_BYTES_MAX < FRAME_BYTES_MAX
assert BATCH_BYTES_TARGET + RUN_BYTES_MAX < FRAME_BYTES_MAX
assert CONFIG_FILE_BYTES_MAX < REQUEST_BYTES_MAX
