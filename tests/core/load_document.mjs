// Reads changes or a saved document with JavaScript Automerge and prints what it sees as one JSON document.
//
// node load_document.mjs FOLDER < INPUT
// FOLDER is where the npm package @automerge/automerge is installed.
// INPUT is {"saved": BASE64} or {"changes": [BASE64, ...]}.

import { readFileSync } from "node:fs"
import { createRequire } from "node:module"

const Automerge = createRequire(`${process.argv[2]}/`)("@automerge/automerge")
const input = JSON.parse(readFileSync(0, "utf8"))
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"))

const document =
  input.saved === undefined
    ? Automerge.applyChanges(Automerge.init(), input.changes.map(bytes))[0]
    : Automerge.load(bytes(input.saved))

// A Str that is not collaborative text is an object of its own kind here; anything else is shown as it is, and so found.
const plain = (value) => (Automerge.isImmutableString(value) ? value.val : { unexpected: String(value) })

const seen = {
  items: Object.entries(document).map(([key, value]) => [key, plain(value)]),
  heads: Automerge.getHeads(document),
  changes: Automerge.getAllChanges(document).map((change) => Automerge.decodeChange(change)),
  saved: Buffer.from(Automerge.save(document)).toString("base64"),
}
process.stdout.write(JSON.stringify(seen))
