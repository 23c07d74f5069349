"""Three machines, three daemons, one cluster: what one of them changes, all of them know."""

from __future__ import annotations

from tests.end_to_end.machines import Machine, converged


def test_a_change_on_any_machine_is_read_on_both_others(cluster: list[Machine]) -> None:
    """Whichever machine a change is committed on, both others have it, and connstatus shows all links up."""
    for machine in cluster:
        machine.set(f"anywhere.{machine.name}", f"from {machine.name}")
    converged(*cluster)
    for reader in cluster:
        for writer in cluster:
            assert reader.get(f"anywhere.{writer.name}") == f"from {writer.name}"
            assert reader.link(writer) == "connected"


def test_the_most_specific_level_says_what_a_key_is(cluster: list[Machine]) -> None:
    """A machine's own value comes first, then its group's, then the cluster's, key by key; moving it changes that."""
    mx1, mx2, mx3 = cluster
    mx1.do("clusterconfig", "addgroup", "Paris")
    mx1.do("clusterconfig", "setgroup", mx3.hostname, "paris")
    for level, keys in (("cluster", "abc"), ("group:Paris", "bc"), (f"machine:{mx3.hostname}", "c")):
        for key in keys:
            mx1.set(f"levels.{key}", f"the {level.split(':')[0]}'s", level)
    converged(*cluster)
    assert [mx2.get(f"levels.{key}") for key in "abc"] == ["the cluster's"] * 3
    assert [mx3.get(f"levels.{key}") for key in "abc"] == ["the cluster's", "the group's", "the machine's"]
    # The same, asked for from elsewhere.
    there = ("--machine", mx3.hostname)
    assert [mx2.get(f"levels.{key}", *there) for key in "abc"] == ["the cluster's", "the group's", "the machine's"]
    assert mx3.status()["group"] == "Paris"

    mx2.do("clusterconfig", "setgroup", mx3.hostname, "Main_Group")
    converged(*cluster)
    assert [mx3.get(f"levels.{key}") for key in "abc"] == ["the cluster's", "the cluster's", "the machine's"]
    listed = {group["name"]: group["machines"] for group in mx3.ask("clusterconfig", "list")["groups"]}
    assert listed["Paris"] == []
    assert {machine["hostname"] for machine in listed["Main_Group"]} == {machine.hostname for machine in cluster}

    mx3.do("unset", "levels.c", "--level", f"machine:{mx3.hostname}", "-m", "why")
    assert mx3.get("levels.c") == "the cluster's"


def test_explain_tells_where_a_value_comes_from(cluster: list[Machine]) -> None:
    """Explain names level, writer, time, reason and event of a value, and what it overrides."""
    mx1, mx2, _ = cluster
    common = mx1.set("explained.key", "for all", comment="the usual")
    event = mx1.set("explained.key", "for one", f"machine:{mx2.hostname}", "the big box")
    converged(*cluster)
    told = mx2.ask("explain", "explained.key")
    assert (told["value"], told["level"]) == ("for one", f"machine:{mx2.hostname}")
    written = told["written"]
    assert (written["event"], written["machine"], written["comment"]) == (event, mx1.hostname, "the big box")
    assert written["user"].startswith("os:")
    assert written["time"].endswith("Z")
    (below,) = told["overrides"]
    assert (below["level"], below["value"], below["written"]["event"]) == ("cluster", "for all", common)


def test_while_one_daemon_is_stopped_the_other_two_go_on(cluster: list[Machine]) -> None:
    """A machine that comes back catches up, and brings what was changed on it meanwhile."""
    for absent in cluster:
        one, other = (machine for machine in cluster if machine is not absent)
        absent.stop()
        for machine in cluster:
            # On the one without a daemon the command itself does the work.
            machine.set(f"absent.{absent.name}.{machine.name}", "changed")
        converged(one, other)
        assert other.get(f"absent.{absent.name}.{one.name}") == "changed"
        absent.serve()
        converged(*cluster)
        assert one.get(f"absent.{absent.name}.{absent.name}") == "changed"
        assert absent.get(f"absent.{absent.name}.{other.name}") == "changed"


def test_every_value_comes_back_as_it_was_written(cluster: list[Machine]) -> None:
    """Version numbers, long integers, letters beyond ASCII and blanks at the ends arrive on another machine exactly."""
    mx1, _, mx3 = cluster
    values = ["1.10", "123456789012345678901234567890", "é", '"  both ends  "', '{"b":1,"a":[null,true]}', "007"]
    for number, value in enumerate(values):
        mx1.set(f"exact.{number}", value)
    converged(*cluster)
    assert [mx3.do("get", f"exact.{number}", "-r").removesuffix("\n") for number in range(len(values))] == [
        *values[:3],
        "  both ends  ",
        *values[4:],
    ]


def test_replay_ends_with_the_live_digest_and_the_log_is_proved(cluster: list[Machine]) -> None:
    """On every machine the state is rebuilt from the log event by event, and hashes, signatures and tables agree."""
    cluster[0].set("proved", "yes")
    converged(*cluster)
    for machine in cluster:
        status = machine.status()
        assert status["digest"] == cluster[0].status()["digest"]
        assert status["digest"] in machine.do("replay").splitlines()[-2]
        machine.verify()
