"""How a plot looks: colours for light and dark, the shapes of marks, and what the legend says of them.

Colours are repeated for the dark theme instead of being named once: not every viewer knows CSS variables.
"""

from __future__ import annotations

_LIGHT = """
.ground { fill: #ffffff } text { fill: #1f2328 } .small { fill: #59636e }
.grid { stroke: #e4e8ec } .border { stroke: #c3cad1 } .rail { stroke: #e4e8ec }
.phase { fill: #ffffff } .odd { fill: #faf4e8 }
.current { stroke: #1a7f64 } .behind { stroke: #dd9a00 } .paused { stroke: #6e7fd0 } .joining { stroke: #8c959f }
.down, .removed { stroke: #b3bac1 } .since { stroke: #1a7f64 }
.isolated { fill: #cf222e } .cut { fill: #cf222e } .slow { fill: #7fa8d6 }
.full { fill: #7d4e00 } .detached { fill: #8250df } .batch { stroke: #57606a }
.accepted { fill: #0969da; stroke: #ffffff } .conflicting { fill: #bf2a8c; stroke: #ffffff }
.refused { stroke: #59636e } .unchanged { stroke: #59636e; fill: #ffffff }
.crash { fill: #cf222e; stroke: #ffffff } .start { fill: #1a7f64; stroke: #ffffff }
.damage { fill: #a04100; stroke: #ffffff } .failed { fill: #7d4e00; stroke: #ffffff }
.restore { stroke: #a04100; fill: #ffffff } .clock { stroke: #24292f; fill: #ffffff }
.join { stroke: #1a7f64 } .word { stroke: #8c959f } .agreed { stroke: #1a7f64 }
.violation { fill: #cf222e; stroke: #ffffff } .violated { stroke: #cf222e }
.good { fill: #1a7f64 } .bad { fill: #cf222e }
"""

_DARK = """
.ground { fill: #0d1117 } text { fill: #e6edf3 } .small { fill: #9aa4af }
.grid { stroke: #21272e } .border { stroke: #3d444d } .rail { stroke: #21272e }
.phase { fill: #0d1117 } .odd { fill: #1b1811 }
.current { stroke: #3fb58f } .behind { stroke: #e3a72f } .paused { stroke: #8d9cf0 } .joining { stroke: #7d8590 }
.down, .removed { stroke: #59636e } .since { stroke: #3fb58f }
.isolated { fill: #f85149 } .cut { fill: #f85149 } .slow { fill: #5c8fc9 }
.full { fill: #c78b30 } .detached { fill: #b083f0 } .batch { stroke: #9aa4af }
.accepted { fill: #58a6ff; stroke: #0d1117 } .conflicting { fill: #ff6bc1; stroke: #0d1117 }
.refused { stroke: #9aa4af } .unchanged { stroke: #9aa4af; fill: #0d1117 }
.crash { fill: #f85149; stroke: #0d1117 } .start { fill: #3fb58f; stroke: #0d1117 }
.damage { fill: #f0a060; stroke: #0d1117 } .failed { fill: #c78b30; stroke: #0d1117 }
.restore { stroke: #f0a060; fill: #0d1117 } .clock { stroke: #e6edf3; fill: #0d1117 }
.join { stroke: #3fb58f } .word { stroke: #7d8590 } .agreed { stroke: #3fb58f }
.violation { fill: #f85149; stroke: #0d1117 } .violated { stroke: #f85149 }
.good { fill: #3fb58f } .bad { fill: #f85149 }
"""

STYLE = f"""
text {{ font: 13px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif }}
.title {{ font-size: 22px; font-weight: 600 }} .name {{ font-weight: 600; text-anchor: end }}
.small {{ font-size: 11px }} .middle {{ text-anchor: middle }} .end {{ text-anchor: end }}
.life {{ stroke-width: 5 }} .down {{ stroke-width: 2; stroke-dasharray: 2 4 }} .joining, .removed {{ stroke-width: 2 }}
.removed {{ stroke-dasharray: 10 4 }}
.paused {{ stroke-dasharray: 4 3 }} .since {{ stroke-width: 2 }}
.isolated {{ fill-opacity: 0.13 }} .batch {{ stroke-width: 1; stroke-opacity: 0.3 }}
.accepted, .conflicting, .crash, .start, .damage, .failed, .violation {{ stroke-width: 1 }}
.refused, .join, .clock, .restore {{ stroke-width: 1.6 }} .unchanged {{ stroke-width: 1 }}
.refused, .join, .agreed {{ fill: none }} .agreed {{ stroke-width: 2.5 }} .violated {{ stroke-width: 2 }}
{_LIGHT}@media (prefers-color-scheme: dark) {{{_DARK}}}
"""

#: Kind of mark -> its outline around the point where it belongs.
GLYPHS = {
    "accepted": "M-4,0A4,4 0 1 0 4,0A4,4 0 1 0 -4,0Z",
    "conflicting": "M0,-7L7,0L0,7L-7,0Z",
    "refused": "M-3.5,-3.5L3.5,3.5M-3.5,3.5L3.5,-3.5",
    "unchanged": "M-2.5,0A2.5,2.5 0 1 0 2.5,0A2.5,2.5 0 1 0 -2.5,0Z",
    "crash": "M3,-11L-6,2H-1L-3,11L6,-2H1Z",
    "start": "M-5,-6L6,0L-5,6Z",
    "restore": "M-6,-1A6,6 0 1 1 -2,5.5M-9,-4L-6,0L-2,-3",
    "clock": "M-6,0A6,6 0 1 0 6,0A6,6 0 1 0 -6,0ZM0,-4V0H3",
    "damage": "M-6,-6H6V6H-6ZM-6,6L6,-6",
    "failed": "M-6,-5H6L0,6Z",
    "join": "M0,-8V8M-8,0H8",
    "word": "M0,-3V3",
    "agreed": "M-6,0L-2,5L6,-6",
    "violation": "M-4,-10H4L10,-4V4L4,10H-4L-10,4V-4Z",
}

#: Kind of mark, line or bar -> what it means, in the order of the legend.
LEGEND = (
    ("current", "has every record that is anywhere"),
    ("behind", "lacks records that are on another machine"),
    ("paused", "stands still"),
    ("down", "does not run"),
    ("joining", "is not a member yet"),
    ("removed", "is removed for good"),
    ("isolated", "is cut off from at least one machine"),
    ("cut", "nothing passes (lower half: back)"),
    ("slow", "a link is slow (lower half: back)"),
    ("full", "its disk is full"),
    ("detached", "is detached (DISCONNECT)"),
    ("accepted", "a change is accepted"),
    ("conflicting", "accepted, and conflicts with another one"),
    ("refused", "a change is refused"),
    ("unchanged", "there is nothing to change"),
    ("crash", "crashes"),
    ("start", "starts again"),
    ("clock", "its clock jumps"),
    ("failed", "an append fails"),
    ("damage", "a bit flips on its disk"),
    ("restore", "is put back to an earlier copy"),
    ("join", "joins"),
    ("word", "something else: the pointer tells"),
    ("batch", "records on their way"),
    ("agreed", "has all records from then on"),
    ("violation", "an invariant breaks"),
)
