"""What each method computes, written out by hand and compared; the start values; what happens to tokens on the way."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from petl_core import methods
from petl_core.methods import Method
from petl_core.vit import ViT, ViTConfig

PLAIN = ViTConfig(32, 8, 16, 2, 2)
DINO = ViTConfig(32, 8, 16, 2, 2, layer_scale=True)
PATCHES = PLAIN.grid**2


def attach(name: str, config: ViTConfig = PLAIN, seed: int = 0, **hyper) -> tuple[ViT, nn.Module, Method]:
    """A ViT whose weights are large enough for every path to matter, and a method with everything it adds disturbed."""
    torch.manual_seed(seed)
    vit = ViT(config, 3)
    with torch.no_grad():
        for key, p in vit.named_parameters():
            p.copy_(
                0.2 * torch.randn(p.shape) + (1.0 if ("norm" in key and "weight" in key) or "gamma" in key else 0.0)
            )
    method = methods.get(name, **hyper)
    vit.methods[name] = method.attach(vit)
    with torch.no_grad():
        for p in vit.methods.parameters():
            p += 0.1 * torch.randn(p.shape)
    return vit.eval(), vit.methods[name], method


def tokens(count: int = 1 + PATCHES, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, count, 16, generator=torch.Generator().manual_seed(4))


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def attention(block, z):
    """The block's attention without any edit."""
    q, k, v = block.attn.qkv(z).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(-1)
    return block.attn.proj((weights @ v).transpose(1, 2).flatten(2))


def mlp(block, z):
    return block.mlp.fc2(F.gelu(block.mlp.fc1(z)))


def near(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# ---- the formulas


def adapter(module, z, scale):
    return scale * module.up(F.relu(module.down(z)))


@pytest.mark.parametrize("config", [PLAIN, DINO], ids=["plain", "dinov2"])
@pytest.mark.parametrize("name", ["houlsby_adapter", "pfeiffer_adapter", "adaptformer"])
def test_adapters(name, config):
    vit, module, _ = attach(name, config, scale=0.7)
    block, x = vit.blocks[0], tokens()
    y = attention(block, block.norm1(x))
    y = x + block.ls1(y + adapter(module[0], y, 0.7) if name == "houlsby_adapter" else y)
    u = mlp(block, block.norm2(y))
    own = module[1] if name == "houlsby_adapter" else module[0]
    near(block(x), y + block.ls2(u + adapter(own, y if name == "adaptformer" else u, 0.7)))


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def test_convpass_convolves_the_patches_and_every_other_token_alone():
    vit, module, _ = attach("convpass", DINO, scale=0.7)
    block, x = vit.blocks[0], tokens(1 + PATCHES + 3)  # three prompts of another method

    def bypass(part, z):
        h = quick_gelu(part.down(z)).transpose(1, 2)  # (B, h, N)
        alone = [part.conv(h[:, :, i, None, None]).flatten(2) for i in range(h.shape[2])]  # images of one pixel
        grid = part.conv(h[:, :, 1 : 1 + PATCHES].unflatten(2, (4, 4))).flatten(2)
        h = torch.cat([alone[0], grid, *alone[1 + PATCHES :]], dim=2).transpose(1, 2)
        return 0.7 * part.up(quick_gelu(h))

    z = block.norm1(x)
    y = x + block.ls1(attention(block, z) + bypass(module[0], z))
    z = block.norm2(y)
    near(block(x), y + block.ls2(mlp(block, z) + bypass(module[1], z)))


def test_repadapter_is_two_convolutions_of_which_the_second_is_grouped():
    vit, module, _ = attach("repadapter", scale=0.7)
    block, x = vit.blocks[0], tokens()

    def edit(part, z):
        h = F.conv1d(z.transpose(1, 2), part.down.weight[:, :, None], part.down.bias)
        return z + 0.7 * F.conv1d(h, part.up[:, :, None], part.up_bias, groups=2).transpose(1, 2)

    y = x + attention(block, edit(module[0], block.norm1(x)))
    near(block(x), y + mlp(block, edit(module[1], block.norm2(y))))


def test_lora_difffit_and_ssf():
    vit, module, _ = attach("lora", scale=0.7, rank=3)
    z = tokens()
    expected = vit.blocks[0].attn.qkv(z) + 0.7 * z @ module[0].down.weight.T @ module[0].up.weight.T
    near(vit.blocks[0].attn.sites["qkv"][0](vit.blocks[0].attn.qkv(z), z), expected)

    vit, module, _ = attach("difffit", DINO)
    block, x = vit.blocks[0], tokens()
    y = x + module[0].gamma * block.ls1(attention(block, block.norm1(x)))
    near(block(x), y + module[1].gamma * block.ls2(mlp(block, block.norm2(y))))

    vit, module, _ = attach("ssf", DINO)
    steps = iter(module)

    def ssf(y):
        part = next(steps)
        return part.scale * y + part.shift

    x = torch.cat([vit.cls_token.expand(2, -1, -1), ssf(vit.patch_embed(images()))], dim=1) + vit.pos_embed
    for block in vit.blocks:
        z = ssf(block.norm1(x))
        q, k, v = ssf(block.attn.qkv(z)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        y = (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(-1) @ v
        x = x + block.ls1(ssf(block.attn.proj(y.transpose(1, 2).flatten(2))))
        z = F.gelu(ssf(block.mlp.fc1(ssf(block.norm2(x)))))
        x = x + block.ls2(ssf(block.mlp.fc2(z)))
    near(vit.forward_features(images()), ssf(vit.norm(x))[:, 0])
    assert next(steps, None) is None


def fact_squares(name, module, block):
    """The r x r matrices of a block, slot by slot as the published formulas say: q, k, v, o, fc1, fc2."""
    r = 3
    if name == "fact_tt":
        qkv, o, fc1, fc2 = (module.cores[block][layer].weight for layer in ("qkv", "proj", "fc1", "fc2"))
        return [*qkv.chunk(3), o], fc1.chunk(4), fc2.chunk(4, dim=1)
    slots = [sum(module.cube[:, :, j] * module.mix[j, 12 * block + m] for j in range(r)) for m in range(12)]
    fc1, fc2 = torch.empty(r, 4 * r), torch.empty(r, 4 * r)
    for i in range(r):
        for j in range(r):
            for m in range(4):
                fc1[i, 4 * j + m], fc2[i, 4 * j + m] = slots[4 + m][i, j], slots[8 + m][i, j]
    fc1_squares = [fc1[:, a * r : (a + 1) * r].T for a in range(4)]
    return [m.T for m in slots[:4]], fc1_squares, [fc2[:, a * r : (a + 1) * r] for a in range(4)]


@pytest.mark.parametrize("name", ["fact_tt", "fact_tk"])
@torch.no_grad()
def test_fact_updates_every_weight_by_its_square(name):
    vit, module, _ = attach(name, rank=3, scale=0.7)
    U, V = module.down.weight, module.up.weight
    for index, block in enumerate(vit.blocks):
        heads, fc1, fc2 = fact_squares(name, module, index)
        weights = {
            (block.attn, "qkv"): torch.cat([0.7 * V @ m @ U for m in heads[:3]]),
            (block.attn, "proj"): 0.7 * V @ heads[3] @ U,
            (block.mlp, "fc1"): torch.cat([0.7 * V @ m @ U for m in fc1]),
            (block.mlp, "fc2"): torch.cat([0.7 * V @ m @ U for m in fc2], dim=1),
        }
        for (owner, layer), update in weights.items():
            x = torch.randn(2, 5, update.shape[1])
            near(owner.sites[layer][0](torch.zeros(()), x), x @ update.T)
            near(module.weight(index, layer), update)


# ---- the start values


def drawn(name, **hyper):
    """What a method adds, as it is before training, on a ViT 96 wide."""
    torch.manual_seed(0)
    return methods.get(name, **hyper).attach(ViT(ViTConfig(32, 8, 96, 2, 2), 3)).requires_grad_(False)


def is_uniform(tensor, bound):
    return tensor.abs().max() <= bound and tensor.std() == pytest.approx(bound / math.sqrt(3), rel=0.15)


@pytest.mark.parametrize("name", ["lora", "fact_tt", "fact_tk", "houlsby_adapter", "pfeiffer_adapter", "adaptformer"])
def test_released_start_of_every_linear_layer(name):
    module = drawn(name, init="released")
    for layer in (part for part in module.modules() if isinstance(part, nn.Linear)):
        assert layer.weight.std() == pytest.approx(0.02, rel=0.25)
        assert layer.bias is None or not layer.bias.any()


def test_released_start_spares_what_is_not_linear():
    bypass = drawn("convpass", init="released")[0]
    assert bypass.up.weight.std() == pytest.approx(0.02, rel=0.2)
    assert torch.equal(bypass.conv.weight, nn.init.dirac_(torch.empty(8, 8, 3, 3)))
    tucker = drawn("fact_tk", init="released", rank=16)
    assert is_uniform(tucker.cube, math.sqrt(6 / (16 * 16 * 2)))
    assert drawn("vqt", init="released").combiner.std() == pytest.approx(0.02, rel=0.4)
    assert not drawn("repadapter", init="released")[0].up.any()


def test_intended_start():
    assert is_uniform(drawn("lora")[0].down.weight, 1 / math.sqrt(96))
    assert is_uniform(drawn("adaptformer")[0].down.weight, 1 / math.sqrt(96))
    xavier = math.sqrt(6 / (96 + 8))
    for name in ("houlsby_adapter", "pfeiffer_adapter"):
        assert is_uniform(drawn(name)[0].down.weight, xavier)
        random = drawn(name, init="random")[0]
        assert is_uniform(random.down.weight, xavier)
        assert is_uniform(random.up.weight, xavier)
        assert 0 < random.up.bias.abs().max() < 1e-5
        assert not any(p.any() for p in drawn(name, init="zero").parameters())
    assert is_uniform(drawn("repadapter")[0].down.weight, xavier)
    assert is_uniform(drawn("convpass")[0].down.weight, xavier)
    assert is_uniform(drawn("convpass", conv_init="xavier")[0].conv.weight, math.sqrt(6 / (9 * 16)))
    prompt = math.sqrt(6 / (3 * 8**2 + 96))
    assert is_uniform(drawn("vpt_shallow").prompts, prompt)
    assert is_uniform(drawn("vpt_deep")[1].prompts, prompt)
    assert is_uniform(drawn("vqt").queries, prompt)
    assert torch.equal(drawn("vqt", queries=5).combiner, torch.ones(11))
    ssf = drawn("ssf")[2]
    assert ssf.scale.mean() == pytest.approx(1.0, abs=0.01)
    assert ssf.scale.std() == pytest.approx(0.02, rel=0.2)
    assert ssf.shift.std() == pytest.approx(0.02, rel=0.2)


# ---- tokens on the way


def sequences(vit):
    """The tokens that LN1 of each block sees."""
    seen = []
    hooks = [b.norm1.register_forward_hook(lambda m, args, out: seen.append(args[0])) for b in vit.blocks]
    vit(images())
    for hook in hooks:
        hook.remove()
    return seen


DEEP = ViTConfig(32, 8, 16, 4, 2)


def test_vpt_shallow_keeps_its_prompts_through_all_blocks():
    vit, module, _ = attach("vpt_shallow", DEEP, prompts=5)
    seen = sequences(vit)
    assert [x.shape[1] for x in seen] == [1 + PATCHES + 5] * 4
    assert torch.equal(seen[0][:, 1 + PATCHES :], module.prompts.expand(2, -1, -1))
    assert not torch.allclose(seen[1][:, 1 + PATCHES :], seen[0][:, 1 + PATCHES :])


def test_released_vpt_shallow_drops_its_prompts_after_the_first_block():
    vit, _, _ = attach("vpt_shallow", DEEP, prompts=5, init="released")
    assert [x.shape[1] for x in sequences(vit)] == [1 + PATCHES + 5] + [1 + PATCHES] * 3


def test_vpt_deep_replaces_its_prompts_before_each_block():
    vit, module, _ = attach("vpt_deep", DEEP, prompts=5)
    seen = sequences(vit)
    assert [x.shape[1] for x in seen] == [1 + PATCHES + 5] * 4
    for x, part in zip(seen, module, strict=True):
        assert torch.equal(x[:, 1 + PATCHES :], part.prompts.expand(2, -1, -1))


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("first", ["vpt_shallow", "vpt_deep"])
def test_deep_and_shallow_prompts_together(first, released):
    vit, module, _ = attach(first, DEEP, prompts=2)
    second = "vpt_deep" if first == "vpt_shallow" else "vpt_shallow"
    other = methods.get(second, prompts=3, init="released" if released else "intended").attach(vit)
    deep = {first: module, second: other.eval()}["vpt_deep"]
    shallow = 2 if first == "vpt_shallow" else 3
    drops = released and second == "vpt_shallow"
    for index, (x, part) in enumerate(zip(sequences(vit), deep, strict=True)):
        kept = 0 if drops and index else shallow
        assert x.shape[1] == 1 + PATCHES + 5 - shallow + kept
        assert torch.equal(x[:, 1 + PATCHES + kept :], part.prompts.expand(2, -1, -1))


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_prompts_before_the_class_token_would_be_the_same_function(name):
    vit, module, _ = attach(name, prompts=3)
    x = torch.cat([vit.cls_token.expand(2, -1, -1), vit.patch_embed(images())], dim=1) + vit.pos_embed
    for index, block in enumerate(vit.blocks):
        if name == "vpt_deep" or index == 0:
            prompts = module[index].prompts if name == "vpt_deep" else module.prompts
            x = torch.cat([prompts.expand(2, -1, -1), x[:, -1 - PATCHES :]], dim=1)
        x = x + attention(block, block.norm1(x))
        x = x + mlp(block, block.norm2(x))
    near(vit.forward_features(images()), vit.norm(x)[:, 3])


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_prompt_dropout_differs_by_image_unless_released(name):
    for init, same in (("intended", False), ("released", True)):
        vit, _, _ = attach(name, prompts=20, dropout=0.5, init=init)
        prompts = sequences(vit.train())[0][:, 1 + PATCHES :]
        assert torch.equal(prompts[0], prompts[1]) == same
        assert 0.3 < (prompts == 0).float().mean() < 0.7


def outputs_of_the_queries(vit, module):
    """VQT by hand: the queries as further tokens of each block, which nobody may attend to."""
    x = torch.cat([vit.cls_token.expand(2, -1, -1), vit.patch_embed(images())], dim=1) + vit.pos_embed
    found, N = [], 1 + PATCHES
    for block, queries in zip(vit.blocks, module.queries, strict=True):
        y = torch.cat([x, queries.expand(2, -1, -1)], dim=1)
        q, k, v = block.attn.qkv(block.norm1(y)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(8)
        scores[..., N:] = -math.inf
        y = y + block.ls1(block.attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)))
        y = y + block.ls2(mlp(block, block.norm2(y)))
        x = y[:, :N]
        found.append(y[:, N:])
    return torch.cat([*found, vit.norm(x)[:, :1]], dim=1)


@pytest.mark.parametrize("config", [PLAIN, DINO], ids=["plain", "dinov2"])
def test_vqt_combines_what_its_queries_read(config):
    vit, module, _ = attach("vqt", config, queries=3)
    found = outputs_of_the_queries(vit, module)
    expected = (found / found.norm(dim=-1, keepdim=True) * module.combiner[:, None]).sum(1)
    near(vit.forward_features(images()), expected)


def test_vqt_leaves_the_backbone_as_it_is_to_the_bit():
    vit, module, _ = attach("vqt", queries=3)
    plain, _, _ = attach("linear")
    seen, expected = [], []
    vit.norm.register_forward_hook(lambda m, args, out: seen.append(out))
    plain.norm.register_forward_hook(lambda m, args, out: expected.append(out))
    vit(images()).sum().backward()
    plain(images())
    assert torch.equal(seen[0], expected[0])
    assert (module.queries.grad.abs().amax(-1) > 0).all()  # of every block and query


def test_vqt_keeps_nothing_between_forwards_even_after_an_error():
    vit, module, _ = attach("vqt", queries=3)
    expected = vit(images())
    assert not module.outputs

    def fail(y, x):
        raise RuntimeError("stopped on the way")

    vit.sites["norm"].append(fail)
    with pytest.raises(RuntimeError, match="stopped on the way"):
        vit(images(3))
    vit.sites["norm"].clear()
    assert torch.equal(vit(images()), expected)
    assert not module.outputs


@pytest.mark.parametrize("name", methods.names())
def test_layer_scale_and_drop_path_act_once_on_a_branch(name):
    torch.manual_seed(0)
    vit = ViT(DINO, 3)
    methods.get(name).attach(vit)
    vit.set_drop_path(0.5)
    calls = []
    for block in vit.blocks:
        for part in (block.drop_path1, block.drop_path2):
            part.register_forward_hook(lambda m, args, out: calls.append(m))
    vit.train()(images())
    assert len(calls) == 4
    # a dropped branch takes what the method added to it along: in the last block some images pass unchanged
    block = vit.blocks[1]
    block.sites["tokens"].clear()
    x = torch.randn(32, 1 + PATCHES, 16)
    unchanged = (block(x) == x).flatten(1).all(1).float().mean()
    assert 0.05 < unchanged < 0.5  # 1/4 is expected
