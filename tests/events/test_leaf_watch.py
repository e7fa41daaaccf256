"""How many leaf links a site should have is what the tree in force says, whatever it was when the node began."""

from dataclasses import replace

from prometheus_client import REGISTRY

from kuaixiang.domain.tree import BureauTree
from node.events.leaf_watch import LeafWatch
from tests.hub.journals import BEIJING, tree


async def test_a_province_that_a_new_tree_adds_is_expected_without_a_restart() -> None:
    trees = [tree()]
    watch = LeafWatch("http://127.0.0.1:1", lambda: trees[-1], tree().root)
    await watch.step()
    assert 2 == REGISTRY.get_sample_value("kx_nats_leaf_links_expected")
    third = replace(tree().get(BEIJING), code="120000")
    trees.append(BureauTree("later", [*tree().bureaus.values(), third]))
    await watch.step()
    assert 3 == REGISTRY.get_sample_value("kx_nats_leaf_links_expected")
