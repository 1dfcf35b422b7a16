"Augmentation over many sizes, types and seeds; recipes that must never change"
import random
import numpy as np
import pytest,torch
from edf_nrr.basics import rng
from edf_nrr.augment import *

ops = DSA().names
PINNED = {'hash': ['0x1.22f1cac7fd3e0p-2', '0x1.f1bcec01eb6b5p-1', '0x1.2f47469914a99p-1'],
    'views': [[0.638831, 0.699656, 0.802549, 0.113209, 1.0], [0.881846, 0.8486, 0.544091, 0.062716, 0.0]],
    'mix': ([10, 14], [[0, 20, 9, 32], [0, 18, 0, 16]])}
each_op = pytest.mark.parametrize('op', ops)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def images(n, size, seed=0, c=3, dtype=torch.float32): return torch.randn(n, c, *((size,size) if isinstance(size, int) else size), generator=rng(seed, 'images'), dtype=dtype)

@pytest.mark.parametrize('size', [8, 9, (7,12)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@each_op
def test_shape_and_type_stay(op, size, dtype):
    x = images(5, size, dtype=dtype)
    out = DSA(op)(x, rng(0, op))
    assert out.shape==x.shape and out.dtype==dtype and out.isfinite().all()

@each_op
def test_types_agree(op):
    x,dsa = images(6, 16, dtype=torch.float64),DSA(op)
    view = dsa.draw(6, 16, rng(1, op))
    assert (dsa.apply(x.float(), view)-dsa.apply(x, view)).abs().max()<1e-5

@each_op
def test_one_image_alone_is_that_image_in_the_batch(op):
    x,dsa = images(6, 16),DSA(op)
    view = dsa.draw(6, 16, rng(1, op))
    for i in range(6):
        alone = View(view.ops, view.values[:,i:i+1], view.size)
        assert torch.allclose(dsa.apply(x[i:i+1], alone)[0], dsa.apply(x, view)[i], atol=1e-6)

@each_op
def test_affine_in_the_images(op):
    x,y,dsa = images(4, 12, dtype=torch.float64),images(4, 12, 1, dtype=torch.float64),DSA(op)
    view = dsa.draw(4, 12, rng(2, op))
    f = lambda v: dsa.apply(v, view)
    assert (f(.3*x+.7*y)-.3*f(x)-.7*f(y)).abs().max()<1e-12

def test_nothing_global_is_drawn_from():
    torch.manual_seed(1); random.seed(1); np.random.seed(1)
    before = torch.get_rng_state(),random.getstate(),np.random.get_state()[1].copy()
    DSA(ops='all')(images(3,8), rng(0)); cutmix_draw(3, 8, rng(0), alpha=.4); Views(0,8).mix(0, [1], 3)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate()==before[1] and (np.random.get_state()[1]==before[2]).all()

def test_input_is_not_changed():
    x = images(4, 8); kept = x.clone()
    DSA(ops='all')(x, rng(0)); cutmix_apply(x, cutmix_draw(4, 8, rng(0))); Views(0,8).apply(x, Views(0,8).draw(0, range(4)))
    assert torch.equal(x, kept)

def test_all_is_each_in_turn():
    x,dsa = images(4, 12),DSA(ops='all')
    view = dsa.draw(4, 12, rng(0))
    step = x
    for op in ops: step = dsa.apply(step, View((op,), torch.stack(view.args(op)), view.size))
    assert torch.equal(step, dsa.apply(x, view))

def test_strategy_order_is_kept(): assert DSA('rotate_color', ops='all').draw(2, 8, rng(0)).ops==('rotate','color')

def test_strength_zero_is_identity():
    x = images(4, 8)
    off = dict(crop_pad=0, scale=1, rotate=0, flip=0)
    for op in ('crop','scale','rotate','flip'): assert torch.equal(DSA(op, **off)(x, rng(0)), x)
    assert torch.equal(DSA('cutout', cutout=0)(x, rng(0)), x)

def test_crop_moves_no_further_than_the_pad():
    x = torch.zeros(500,1,16,16); x[:,:,8,8] = 1
    at = DSA('crop', crop_pad=.25)(x, rng(0)).flatten(1).argmax(1)
    dy,dx = at//16-8,at%16-8
    assert {*dy.tolist()}=={*range(-4,5)}=={*dx.tolist()}

@pytest.mark.parametrize('size,side', [(8,4), (9,5), (10,5), (32,16), (7,4)])
def test_cutout_hole(size, side):
    "Never larger than its side, sometimes whole, sometimes cut by the edge, always there"
    hole = (DSA('cutout')(torch.ones(2000,1,size,size), rng(size))==0)[:,0]
    rows,cols = hole.any(2).sum(1),hole.any(1).sum(1)
    assert (hole.flatten(1).sum(1)==rows*cols).all() and rows.max()==cols.max()==side and 0<rows.min()<side

def test_gradient_is_zero_where_nothing_is_read():
    x = images(3, 8).requires_grad_()
    dsa = DSA('cutout'); view = dsa.draw(3, 8, rng(0))
    dsa.apply(x, view).sum().backward()
    assert torch.equal(x.grad, dsa_cutout(torch.ones(3,3,8,8), *view.args('cutout')))

def test_gradient_of_a_rotation_is_its_transpose():
    x,y = images(2, 9, dtype=torch.float64).requires_grad_(),images(2, 9, 1, dtype=torch.float64)
    a = torch.tensor([33., -7.], dtype=torch.float64)
    (dsa_rotate(x, a)*y).sum().backward()
    e = torch.eye(81, dtype=torch.float64).view(81,1,9,9)
    for i in range(2):
        M = dsa_rotate(e, a[i:i+1]).flatten(1)        # row p: where pixel p goes
        assert torch.allclose(x.grad[i,0].flatten(), M@y[i,0].flatten(), atol=1e-12)

@pytest.mark.parametrize('kw,words', [(dict(strategy='colour'), 'colour'), (dict(strategy='flip_flip'), 'twice'), (dict(strategy=''), "must be one of .*got ''"),
    (dict(ops='both'), 'both'), (dict(rotate=-1), 'rotate'), (dict(flip=2), 'flip'), (dict(cutout=1.5), 'cutout')])
def test_dsa_errors(kw, words):
    with pytest.raises(ValueError, match=words): DSA(**kw)

@pytest.mark.parametrize('size', [1, 2, 7, 8, (5,30)])
@pytest.mark.parametrize('alpha', [.2, 1., 5.])
def test_cutmix_lambda_counts_pixels(size, alpha):
    H,W = (size,size) if isinstance(size, int) else size
    for i in range(100):
        mix = cutmix_draw(3, size, rng(i, alpha), alpha)
        t,b,l,r = mix.box[0].tolist()
        assert 0<=t<=b<=H and 0<=l<=r<=W and 0<=mix.lam<=1
        got = cutmix_apply(torch.zeros(3,1,H,W), mix, torch.ones(3,1,H,W)).mean((1,2,3))
        assert torch.allclose(1-got, mix.lam.expand(3), atol=1e-6)

def test_cutmix_gradient_goes_to_both():
    x = images(4, 8).requires_grad_()
    mix = CutMix(torch.tensor([1,2,3,0]), torch.tensor([[2,6,0,4]]), torch.tensor([.75]))
    cutmix_apply(x, mix).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))

def test_cutmix_errors():
    with pytest.raises(ValueError, match='alpha'): cutmix_draw(3, 8, rng(0), alpha=0)

def test_recipes_never_change():
    "Labels stored for these views are worthless the day one of these numbers moves"
    assert [o.item().hex() for o in hash_uniform(7, 2, torch.arange(3))]==PINNED['hash']
    assert torch.allclose(Views(7, 32).draw(2, [0,1]), torch.tensor(PINNED['views']), atol=1e-6)
    mix = Views(7, 32).mix(2, [0,1], 50)
    assert (mix.partner.tolist(),mix.box.tolist())==PINNED['mix']

@pytest.mark.parametrize('seed', [0, -1, 2**63, 2**64-1, -2**63])
def test_any_seed(seed):
    a = hash_uniform(seed, 0, torch.arange(1000))
    assert 0<=a.min() and a.max()<1 and .45<a.mean()<.55 and len(a.unique())==1000

def test_seeds_and_epochs_do_not_shift_into_each_other():
    a = {k:hash_uniform(s, e, torch.arange(500)).tolist() for s in range(6) for e in range(6) for k in [(s,e)]}
    assert len({o for v in a.values() for o in v})==36*500

@pytest.mark.parametrize('make', [list, torch.tensor, lambda o: torch.tensor(o, dtype=torch.int32), np.array])
def test_views_take_any_indices_in_any_company(make):
    views,order = Views(1, 16),torch.randperm(40, generator=rng(0)).tolist()
    whole = views.draw(2, range(40))
    assert torch.equal(views.draw(2, make(order)), whole[order])
    parts = torch.cat([views.draw(2, make(order[i:i+7])) for i in range(0, 40, 7)])
    assert torch.equal(parts, whole[order])

def test_mosaic_crops_stay_inside():
    views = Views(0, 16, scale=(.05,.2))
    x = torch.ones(300,1,40,24)
    assert torch.allclose(views.apply(x, views.draw(0, range(300))), torch.ones(300,1,16,16), atol=1e-6)

def test_views_gradient_is_the_transpose():
    views = Views(0, 12)
    r = views.draw(0, [3])
    e = torch.eye(100, dtype=torch.float64).view(100,1,10,10)
    M = views.apply(e, r.expand(100,-1)).flatten(1)
    x,y = torch.zeros(1,1,10,10, dtype=torch.float64, requires_grad=True),images(1, 12, c=1, dtype=torch.float64)
    (views.apply(x, r)*y).sum().backward()
    assert torch.allclose(x.grad.flatten(), M@y.flatten(), atol=1e-12)

@cuda
@pytest.mark.parametrize('op', [*ops, 'all'])
def test_cuda_is_the_cpu_and_never_waits(op):
    dsa = DSA(ops='all') if op=='all' else DSA(op)
    x = images(8, 32)
    view = dsa.draw(8, 32, rng(0))
    on = x.cuda(),view.to('cuda')
    dsa.apply(*on); torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try: out = dsa.apply(*on)
    finally: torch.cuda.set_sync_debug_mode('default')
    assert (out.cpu()-dsa.apply(x, view)).abs().max()<1e-4

@cuda
def test_cuda_gradient_repeats_bit_for_bit():
    torch.use_deterministic_algorithms(True)
    try:
        x,dsa = images(16, 32).cuda().requires_grad_(),DSA('rotate')
        view = dsa.draw(16, 32, rng(0)).to('cuda')
        gs = [torch.autograd.grad(dsa.apply(x, view).square().sum(), x)[0] for _ in range(5)]
        assert all(torch.equal(g, gs[0]) for g in gs)
    finally: torch.use_deterministic_algorithms(False)
