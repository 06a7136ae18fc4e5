"""Checks of the harness itself, on made-up tensors and a made-up model: python -m unittest checks. Nothing is downloaded."""

from __future__ import annotations

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import torch

from bootstrap import estimate
from merge import MergeOptions, evict_head, merge_head, protected, sets_of, shrunk
from model import Llama, Prefix, Seen, rotate, rotation, unrotate


def made_model(folder: Path) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=96,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=64,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    return model


class TheModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.theirs = made_model(Path(cls.folder.name))
        cls.ours = Llama(Path(cls.folder.name))
        cls.ids = torch.randint(0, 64, (1, 40), generator=torch.Generator().manual_seed(2))

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def test_says_and_stores_what_transformers_does(self) -> None:
        seen: list[Seen] = []
        logits = self.ours.run(self.ids, observe=seen.append)
        with torch.inference_mode():
            theirs = self.theirs(self.ids, use_cache=True)
        torch.testing.assert_close(logits, theirs.logits, atol=1e-4, rtol=1e-4)
        for mine, layer in zip(seen, theirs.past_key_values.layers, strict=True):
            torch.testing.assert_close(mine.keys, layer.keys[0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(mine.values, layer.values[0], atol=1e-4, rtol=1e-4)

    def test_goes_on_behind_a_prefix_as_in_one_run(self) -> None:
        seen: list[Seen] = []
        whole = self.ours.run(self.ids)
        self.ours.run(self.ids[:, :25], observe=seen.append, logits=False)
        prefix = Prefix([layer.keys for layer in seen], [layer.values for layer in seen], 25)
        rest = self.ours.run(self.ids[:, 25:], prefix)
        torch.testing.assert_close(rest, whole[:, 25:], atol=1e-4, rtol=1e-4)
        two = self.ours.run(self.ids[:, 25:].repeat(2, 1), prefix)
        torch.testing.assert_close(two[1], rest[0], atol=1e-4, rtol=1e-4)
        # A key that counts twice is a key that is there twice; one without attention is not there.
        twice = Prefix(*([torch.cat((t, t[:, 3:4]), 1) for t in part] for part in (prefix.keys, prefix.values)), 25)
        bias = torch.zeros(2, 25)
        bias[:, 3] = torch.log(torch.tensor(2.0))
        counted = self.ours.run(self.ids[:, 25:], replace(prefix, bias=[bias] * 3))
        torch.testing.assert_close(counted, self.ours.run(self.ids[:, 25:], twice), atol=1e-4, rtol=1e-4)
        self.assertGreater((counted - rest).abs().max().item(), 1e-3)

    def test_attention_is_shared_out_whole(self) -> None:
        seen: list[Seen] = []
        self.ours.run(self.ids, observe=seen.append, logits=False)
        for layer in seen:
            torch.testing.assert_close(layer.attention.sum(1), torch.full((2,), 3.0 * 40))

    def test_turns_back(self) -> None:
        values = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(3))
        turns = rotation(self.ours.shape, 5, 9)
        self.assertGreater((rotate(values, turns) - values).abs().max().item(), 0.1)
        torch.testing.assert_close(unrotate(rotate(values, turns), turns), values)


class Merging(unittest.TestCase):
    def setUp(self) -> None:
        generator = torch.Generator().manual_seed(4)
        self.keys = torch.randn(100, 16, generator=generator).cumsum(0)
        self.values = torch.randn(100, 16, generator=generator)
        self.attention = torch.rand(100, generator=generator)

    def test_leaves_the_budget_and_each_token_once(self) -> None:
        for options in (
            MergeOptions(set_max=None),
            MergeOptions(budget=0.35, recent=0.08, heavy=0.02, set_max=None),
            MergeOptions(budget=0.6, set_max=4),
        ):
            sets = sets_of(self.keys, self.attention, options)
            self.assertEqual(len(sets), round(options.budget * 100))
            self.assertEqual(sorted(token for members in sets for token in members), list(range(100)))
            kept = protected(self.attention, options)
            self.assertEqual(int(kept.sum()), 4 + round(options.recent * 100) + round(options.heavy * 100))
            for members in sets:
                self.assertTrue(len(members) == 1 or not kept[members].any())
                self.assertLessEqual(len(members), options.set_max or 100)
                # Neighbours but for protected tokens in between.
                between = set(range(members[0], members[-1] + 1)) - set(members)
                self.assertTrue(all(kept[token] for token in between))

    def test_a_budget_that_the_rules_do_not_allow_is_come_near(self) -> None:
        options = MergeOptions(budget=0.3, set_max=2)
        sets = sets_of(self.keys, self.attention, options)
        free = 100 - int(protected(self.attention, options).sum())
        self.assertGreaterEqual(len(sets), 100 - free // 2)
        self.assertLess(len(sets), 100 - free // 3)

    def test_weighs_as_it_says(self) -> None:
        keys = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        values = torch.tensor([[2.0], [4.0], [8.0]])
        attention = torch.tensor([0.1, 0.9, 0.5])
        plain = MergeOptions(budget=2 / 3, sinks=0, recent=0.0, heavy=0.0, sigma=None)
        merged = merge_head(keys, values, attention, plain)
        self.assertEqual(merged.sets, [[0, 1], [2]])
        torch.testing.assert_close(merged.keys, torch.tensor([[1.0, 0.05], [0.0, 1.0]]))
        torch.testing.assert_close(merged.values, torch.tensor([[3.0], [8.0]]))
        torch.testing.assert_close(merged.bias, torch.tensor([2.0, 1.0]).log())
        scaled = merge_head(keys, values, attention, replace(plain, values="size"))
        torch.testing.assert_close(scaled.values, torch.tensor([[6.0], [8.0]]))
        self.assertEqual(scaled.bias.tolist(), [0.0, 0.0])
        pivot = merge_head(keys, values, attention, replace(plain, sigma=0.05, pivot_key=True))
        torch.testing.assert_close(pivot.keys[0], keys[1])
        self.assertGreater(pivot.values[0].item(), 3.5)

    def test_h2o_keeps_the_new_and_the_heavy(self) -> None:
        left = evict_head(self.keys, self.values, self.attention, 0.2)
        tokens = [members[0] for members in left.sets]
        self.assertEqual(tokens[-10:], list(range(90, 100)))
        self.assertGreaterEqual(self.attention[tokens[:10]].min(), self.attention[:90].sort().values[-10])

    def test_heads_of_different_length_stand_side_by_side(self) -> None:
        kv = torch.stack((self.keys, self.values)).view(1, 2, 2, 50, 16).bfloat16()
        attention = self.attention.view(1, 2, 50)
        prefix = shrunk(kv, attention, MergeOptions(budget=0.3, set_max=3))
        self.assertEqual(prefix.length, 50)
        self.assertEqual(prefix.keys[0].shape, prefix.values[0].shape)
        self.assertEqual(prefix.bias[0].shape, prefix.keys[0].shape[:2])


class Intervals(unittest.TestCase):
    def test_hold_what_they_should(self) -> None:
        generator = torch.Generator().manual_seed(5)
        hits = 0
        for _ in range(40):
            found = estimate(torch.randn(40, 1, generator=generator) + 3)
            self.assertLess(found["low"], found["value"])
            self.assertLess(found["value"], found["high"])
            hits += found["low"] <= 3 <= found["high"]
        self.assertGreaterEqual(hits, 33)

    def test_of_a_quotient_pair_what_belongs_together(self) -> None:
        before = torch.linspace(1, 9, 20)[:, None]
        found = estimate(torch.cat((before * 1.1, before), 1), lambda means: means[..., 0] / means[..., 1])
        self.assertAlmostEqual(found["low"], 1.1, places=5)
        self.assertAlmostEqual(found["high"], 1.1, places=5)


if __name__ == "__main__":
    unittest.main()
