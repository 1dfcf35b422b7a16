"Write bench/README.md from the JSON files in bench/results: python bench/report.py"
from pathlib import Path
from matplotlib.figure import Figure
from edf_nrr.basics import markdown_table as table, mean_ci, plus_minus, read_json, results_table
from edf_nrr.report import Comparison
from gpu import QUEUE

here = Path(__file__).parent
def pm(v): return plus_minus(tuple(v))
def signed(v): return plus_minus(tuple(v), sign=True)

def accuracies(name): return results_table(here/'results'/f'{name}.json').data

def complexity():
    "What is kept of full-data accuracy, and paired differences to DATM, a row a set from the simplest to the most complex"
    r = read_json(here/'results/complexity.json')
    at,sets = {(o['data'], o['method']): o for o in r['rows']},r['sets']
    names = list(dict.fromkeys(o['method'] for o in r['rows']))
    head,rows = ['set', 'complexity, %', 'full data, %', *[f'{m} keeps, %' for m in names[:2]], *[f'{m} to DATM, points' for m in names[2:]]],[]
    for n in sorted(sets, key=lambda n: sets[n]['complexity']):
        cells = [f"{100*sets[n]['complexity']:.1f}", pm(mean_ci(sets[n]['full'])), *(pm(at[n,m]['kept']) for m in names[:2]), *(signed(at[n,m]['minus_datm']) for m in names[2:])]
        rows.append([n, *cells])
    o = r['rows'][0]
    return table(head, rows) + (f"\n\n`{r['command']}`: {r['seconds']:.0f} s for all sets one after another, other work beside them, on {r['versions']['cores']} CPU cores of which {r['versions']['threads']} was used; {o['distillation_seeds']} distillations "
                               f"a method and set with {o['students_each']} students each, 95 % intervals over distillations, differences paired by seed.")

def ratio(o): return f"{o['ratio_median']:.2f} ({o['ratio_min']:.2f}–{o['ratio_max']:.2f})"

def on(r): return f"{r['versions']['cores']} CPU cores of which {r['versions']['threads']} was used, torch {r['versions']['torch']}"

def matching():
    "Forms of the gradient, their memory, and an iteration against the EDF release"
    r = read_json(here/'results/matching.json')
    res = []
    for arch,rows in r['forms'].items():
        res.append(f'**{arch}**, time to the first row\n\n' + table(['form', 'time', 'seconds a step', f"MB, N={r['steps']}", 'error'],
                   [[o['form'], ratio(o), f"{o['seconds']/r['steps']:.3f}", o['peak_mb'], f"{o['error']:.0e}"] for o in rows]))
    ns = list(next(iter(r['memory'].values())))
    res.append(f"**Peak memory by inner steps**, {r['small']}, MB\n\n" + table(['form', *[f'N={n}' for n in ns]], [[k, *v.values()] for k,v in r['memory'].items()]))
    if 'release' in r:
        e = r['release']
        res.append(f"**An iteration against the EDF release**, its ConvNet, its own statements, CPD .25, N={e['steps']}; memory at N={e['memory_steps']}\n\n"
                   + table(['form', 'time', 'seconds', f"GB, N={e['memory_steps']}"], [[o['form'], ratio(o), f"{o['seconds']:.1f}", f"{e['memory'][o['form']]/1024:.2f}" if o['form'] in e['memory'] else ''] for o in e['rows']])
                   + '\n\nSame batches, no augmentation, three steps: ' + '; '.join(f"{k}: loss {v['loss']:.0e} apart, gradients {v['gradient']:.0e}" for k,v in e['agreement'].items()) + '.')
    return '\n\n'.join(res) + (f"\n\n`{r['command']}`: {r['size']} pixels, {r['batch']} images a step, {r['rounds']} turns in processes of their own, median (least–most); errors are the largest relative distance "
                               f"to the unrolled gradient in float64; memory beyond the process's own and the parameters of the steps; {on(r)}.")

def roofline():
    r = read_json(here/'results/roofline.json')
    kinds = list(r['rows'][0]['shares'])
    rows = [[o['arch'], o['size'], o['batch'], f"{o['gflop_a_step']:.2f}", f"{o['seconds_a_step']:.3f}", f"{o['gflops']:.0f}", f"{o['matrix_gflops']:.0f}", f"{o['share_of_limit']:.0%}", *[f"{o['shares'][k]:.0%}" for k in kinds]] for o in r['rows']]
    return table(['network', 'side', 'images a step', 'GFLOP a step', 'seconds', 'GFLOP/s', 'of a matrix product', 'share', *kinds], rows) + f"\n\n`{r['command']}`: median of {r['rounds']}; right of `share`: where the profiled time goes; {on(r)}."

def growth_picture(r):
    "Time and peak memory of each topic over each factor, as multiples of the first value, on logarithmic axes"
    topics = list(dict.fromkeys(o['topic'] for o in r['rows']))
    fig = Figure(figsize=(13, 4.6), dpi=64, layout='constrained')
    axs = fig.subplots(2, len(topics), sharex=True)
    for o in r['rows']:
        j,x = topics.index(o['topic']),[v/o['values'][0] for v in o['values']]
        for ax,y,e in ((axs[0,j], o['seconds'], o['time_exponent']), (axs[1,j], o['peak_mb'], o['memory_exponent'])):
            ax.loglog(x, y, marker='o', ms=3, label=f"{o['factor']}: {e[0]:.2f}")
            ax.legend(fontsize=7, framealpha=.4)
    for j,t in enumerate(topics):
        axs[0,j].set_title(t, fontsize=9); axs[1,j].set_xlabel('times the least', fontsize=8)
        axs[1,j].set_xticks([1, 2, 4, 8], ['1', '2', '4', '8']); axs[1,j].minorticks_off()
    axs[0,0].set_ylabel('seconds'); axs[1,0].set_ylabel('peak MB')
    fig.savefig(here/'results'/'growth.png')

def growth():
    r = read_json(here/'results/growth.json')
    growth_picture(r)
    e = lambda v: '{:.2f} ± {:.2f}'.format(*v)
    rows = [[o['topic'], o['factor'], '–'.join(map(str, (o['values'][0], o['values'][-1]))), e(o['time_exponent']), f"{o['seconds'][0]:.2g}–{o['seconds'][-1]:.2g}", e(o['memory_exponent']), f"{o['peak_mb'][0]:.0f}–{o['peak_mb'][-1]:.0f}"] for o in r['rows']]
    ends = [[f"{o['method']} {o['data']}, {o['ipc']} a class", o['arch'], o['size'], o['batch'], o['steps'], f"{o['unrolled_gb']:.1f}", f"{o['adjoint_gb']:.2f}", *[f"{o['most'][m]['steps']} / {o['most'][m]['batch']:,}" for m in o['most']]] for o in r['limits']]
    return ('![Time and peak memory over classes, images a class, image side and inner steps; the legends give the exponents](results/growth.png)\n\n' + table(['what', 'over', 'from–to', 'time exponent', 'seconds', 'memory exponent', 'MB'], rows) + f"\n\n`{r['command']}`: from {r['base']}; slope of the logarithms ± its standard error, median of {r['calls']} calls; {on(r)}.\n\n"
            "**Where memory ends**, by the bytes that a step's graph holds: gigabytes of a published setting, unrolled and adjoint, and the most steps (unrolled) or images a step (adjoint) that fit\n\n"
            + table(['setting', 'network', 'side', 'images a step', 'N', 'unrolled, GB', 'adjoint, GB', *[f'{m} GB: most N / most images' for m in r['limits'][0]['most']]], ends))

def students():
    "Ratio by network, images a class and number of students"
    r = read_json(here/'results/students.json')
    head = ['network', 'image side', 'IPC', 'students', 'together / one by one', 'min–max', '`evaluate` trains them']
    rows = [[o['arch'], o['size'], o['ipc'], o['students'], f"{o['ratio_median']:.2f}", f"{o['ratio_min']:.2f}–{o['ratio_max']:.2f}", o['chosen']]
            for o in sorted(r['rows'], key=lambda o: (o['size'], o['ipc'], o['students']))]
    return table(head, rows, 'lrrrrrl') + f"\n\n`{r['command']}`: median of {r['rounds']} turns; torch {r['versions']['torch']}, {r['versions']['threads']} threads."

def experts():
    "Rates, ratios and bytes, a table a kind of step"
    r = read_json(here/'results/experts.json')
    base = r['rows'][0]['form']
    head = ['steps', 'recorder', 'images a second', 'experts an hour', f'times faster than {base}', 'min–max', 'MB an expert']
    rows = [[o['rule'], o['form'], f"{o['images_a_second']:,.0f}", f"{o['experts_an_hour']:.3g}", f"{o['faster_median']:.2f}", f"{o['faster_min']:.2f}–{o['faster_max']:.2f}",
             '' if o['bytes_an_expert'] is None else f"{o['bytes_an_expert']/1e6:.1f}"] for o in r['rows']]
    same = ', '.join(f'{v:.0e} in {k}' for k,v in r['step_difference'].items())
    return table(head, rows, 'llrrrrr') + (f"\n\n`{r['command']}`: {r['arch']} at {r['size']} pixels, batches of {r['batch_size']}, {r['n_train']:,} training and {r['n_test']:,} test images an epoch, median of {r['rounds']} turns; experts an hour are for 50,000 images "
                                f"and {r['published_epochs']} epochs; bytes for {r['published_epochs']} epochs, as bfloat16 those of epochs 0 to {r['keep']} and the last. *The passes alone* are the forward and backward passes and nothing else. "
                                + (f"One GSAM step of both from equal parameters on an equal batch differs by {same}, as a share of the longest move of a parameter. " if same else '') + f"torch {r['versions']['torch']}, {r['versions'].get('gpu', str(r['versions']['threads'])+' threads')}.")

def relabel():
    "Making labels, learning from them, reading them"
    r = read_json(here/'results/relabel.json')
    def rates(head, rows): return table([head, 'views a second', f"of {rows[0]['to']}", 'min–max'],
        [[o['form'], f"{o['views_a_second']:,.0f}", f"{o['rate_median']:.2f}", f"{o['rate_min']:.2f}–{o['rate_max']:.2f}"] for o in rows])
    s = r['store']
    memory = lambda k: f"{s[k]['anonymous_mb']} MB of its own and {s[k]['mapped_mb']} MB of mapped files"
    return (rates('making', r['made']) + '\n\n' + rates('a student', r['learned']) + f"\n\nA store of {s['file_mb']} MB ({s['epochs']} epochs of {s['images']} images): opened in {1000*s['seconds_to_open']:.1f} ms; a process has {memory('before')} before, {memory('opened')} when it is open, "
            f"{memory('all_epochs')} after all of it was read, {memory('copied')} with a copy in memory. Read at {s['views_a_second_mapped']:,.0f} views a second from the file, {s['views_a_second_in_memory']:,.0f} from the copy.\n\n`{r['command']}`: teacher {r['teacher']}, student {r['arch']}, {r['size']} pixels, IPC {r['ipc']}, "
            f"{r['epochs']} epochs, {r['batch_size']} views a batch, median of {r['rounds']} turns. Components ask the teacher about 10 views a class more, once, to fit their code. torch {r['versions']['torch']}, {r['versions'].get('gpu', str(r['versions']['threads'])+' threads')}.")

def nrr_speed():
    "Images a second and how many times faster than each published loop, a table a task"
    r = read_json(here/'results/nrr_speed.json')
    times = lambda o, k: '{median:.2f} ({min:.2f}–{max:.2f})'.format(**o['faster_than'][k]) if k in o['faster_than'] else ''
    def of_task(task):
        rows = [o for o in r['rows'] if o['task']==task]
        against = list(dict.fromkeys(k for o in rows for k in o['faster_than']))
        return table(['network', '', 'images a second', *[f'× {k}' for k in against]],
                     [[o['arch'], o['contestant'], f"{o['images_a_second']:.0f}", *[times(o, k) for k in against]] for o in rows], 'llr'+'r'*len(against))
    same = '; '.join(f"{a}: largest difference of the crops that RDED's selection and ours take {c['difference_of_choice']:.0e}, first loss {c['first_loss']:.5f}, SRe2L's {c['first_loss_of_sre2l']:.5f}, images after {c['images_apart']['iterations']} steps {c['images_apart']['mean']:.0e} apart in the mean"
                     for a,c in r['checks'].items() if 'first_loss' in c and 'difference_of_choice' in c)
    tasks = dict.fromkeys(o['task'] for o in r['rows'])
    return '\n\n'.join(f'**{t}**\n\n{of_task(t)}' for t in tasks) + (f"\n\n`{r['command']}`: {r['data']}, {r['device']}, {r['versions'].get('gpu', str(r['versions']['threads'])+' threads')}, torch {r['versions']['torch']}; "
        f"medians of {r['rounds']} turns, min–max. Refinement counts images times iterations. {same}.")

def by_name(name): return {o['method']: o for o in read_json(here/'results'/f'{name}.json')['rows']}

def minus(a, b): return signed(mean_ci([x-y for x,y in zip(a['accuracy'], b['accuracy'])]))

def how(name):
    r = read_json(here/'results'/f'{name}.json')
    o = r['rows'][0]
    return (f"`{r['command']}`: students of {o['arch']}, {len(o['accuracy'])} seeds, each a set and a student of its own; 95 % intervals, differences paired by seed; "
            f"{r['versions']['cores']} CPU cores, torch {r['versions']['torch']}")

def nrr_table():
    "Accuracy, difference to the start without refinement, to random real images and to SRe2L"
    at = by_name('cifar10_nrr')
    rows = []
    for m,o in at.items():
        base = m.split(' + NRR')[0]
        cells = [pm(mean_ci(o['accuracy'])), minus(o, at[base]) if base!=m else '', '' if m=='random real' else minus(o, at['random real']), '' if m=='SRe2L' else minus(o, at['SRe2L']), f"{o['seconds_to_make']:.0f}"]
        rows.append([m, *cells])
    head = ['method', 'accuracy, %', 'to the same start, unrefined', 'to random real', 'to SRe2L', 'seconds to make']
    return table(head, rows) + f"\n\n{how('cifar10_nrr')}; teacher {100*at['SRe2L']['teacher']:.1f} % on the judging images."

REFERENCE = {'start': 'random real', 'candidates': 'CIDD highest', 'weak teacher': 'random real, teacher_epochs 1', 'short training': 'random real, epochs 75',
             'one image a class': 'random real, ipc 1', '8 pixels': 'random real, size 8', '32 pixels': 'random real, size 32'}

def nrr_matrix():
    "Starts down, what is refined across"
    at = by_name('cifar10_nrr_choices')
    starts,kinds = [m.removesuffix(' + whole image') for m in at if m.endswith(' + whole image')],{'as chosen': '', 'NRR': ' + NRR', 'NRR, no BatchNorm loss': ' + NRR, no BatchNorm loss', 'whole image': ' + whole image', 'critical only': ' + critical only'}
    return table(['start', *kinds], [[s, *[pm(mean_ci(at[s+k]['accuracy'])) for k in kinds.values()]] for s in starts])

def nrr_choices():
    "A table a group"
    file = here/'results/cifar10_nrr_choices.json'
    groups = dict.fromkeys(o['group'] for o in read_json(file)['rows'])
    tables = {g: nrr_matrix() if g=='refinement' else results_table(file, REFERENCE.get(g, 'CIDD lowest correct + NRR'), group=g).data.rsplit('\n\n', 1)[0] for g in groups}
    return '\n\n'.join(f'**{g}**\n\n{t}' for g,t in tables.items()) + f"\n\n{how('cifar10_nrr_choices')}, judged on 5,000 held-out training images."

def nrr_labels():
    "Sets down, kinds of label across"
    at = by_name('cifar10_nrr_labels')
    sets,kinds = (list(dict.fromkeys(m.split(': ')[i] for m in at)) for i in (0, 1))
    return table(['set', *kinds], [[m, *[pm(mean_ci(at[f'{m}: {k}']['accuracy'])) for k in kinds]] for m in sets]) + f"\n\n{how('cifar10_nrr_labels')}."

def labels():
    "Bytes a view and accuracy of every kind of label, a column pair a data set"
    r = read_json(here/'results/labels.json')
    sets,at = list(r['data']),{(o['data'], o['labels']): o for o in r['rows']}
    def cells(o): return [f"{o['bytes']:.3g}", pm(mean_ci(o['accuracy']))] if o else ['', '']
    head = ['labels', *[h for d in sets for h in (f'{d}: bytes a view', 'accuracy, %')]]
    rows = [[k, *[c for d in sets for c in cells(at.get((d, k)))]] for k in (o['labels'] for o in r['rows'] if o['data']==sets[-1])]
    o,teachers = r['rows'][0],', '.join(f"{d} {v['teacher_accuracy']:.1%}" for d,v in r['data'].items())
    return table(head, rows) + (f"\n\n`{r['command']}`: {r['seconds']:.0f} s on {r['versions']['cores']} CPU cores, of which 1 was used, without the teachers ({teachers}); {o['ipc']} random real images a class, "
                               f"students of {o['arch']}, last epoch, 95 % intervals over {len(o['seeds'])} seeds, each with images, views and student of its own.")

def compare_table(): return Comparison.load(here/'results/compare.json').markdown()

def selection():
    "Rank correlations with the order of all images, regret and time, a row a set"
    r = read_json(here/'results/selection.json')
    def rank(v): return '{:.2f} ± {:.2f}'.format(*mean_ci(v))
    def cells(o): return [o['method'], o['labels'], rank(o['spearman']), rank(o['kendall']), pm(mean_ci(o['regret'])), f"{o['seconds']:.0f}", f"{o['seconds_full']/o['seconds']:.1f}"]
    head = ['trained on', 'labels', "Spearman's rho", "Kendall's tau", 'regret, points', 'seconds', 'times faster']
    return table(head, [cells(o) for o in r['orders']]) + (f"\n\n`{r['command']}`: {len(r['candidates'])} networks, {r['ipc']} images a class for {r['budget']} steps, all {r['n_train']:,} for {r['full_budget']}; 95 % intervals over {len(r['orders'][0]['spearman'])} seeds, each one run a network. "
        f"Seconds: all candidates once and the set they learn from; {r['versions']['cores']} CPU cores of which {r['versions']['threads']} was used, torch {r['versions']['torch']}.")

def dm_table(data):
    "Baselines and distribution matching on one data set, paired by seed"
    r = read_json(here/'results/dm.json')
    at = {o['method']: o for o in r['rows'] if o['data']==data}
    lines = [[m, pm(mean_ci(o['accuracy'])), *('' if m==k else minus(o, at[k]) for k in ('random real', 'DM')), f"{o['seconds_to_make']:.0f}"] for m,o in at.items()]
    return table(['method', 'accuracy, %', 'to random real', 'to DM', 'seconds to make'], lines)

def dm():
    r,c = (read_json(here/f'results/{o}.json') for o in ('dm', 'dm_choice'))
    s,o = r['settings'],r['rows'][0]
    tried = table(['changed', 'held-out accuracy, %'], [[o['method'], ', '.join(f'{100*a:.1f}' for a in o['accuracy'])] for o in c['rows']])
    names = dict(cifar10='CIFAR-10', digits="Cluttered digits, the digit's square 60 % of the image")
    return ('\n\n'.join(f'**{names[k]}**\n\n{dm_table(k)}' for k in dict.fromkeys(o['data'] for o in r['rows'])) + f"\n\n`{r['command']}`: {r['seconds']:.0f} s, {on(r)}; students of {o['arch']}, hard labels, {r['recipe']['epochs']} epochs, "
            f"{len(o['seeds'])} seeds, each a set and a student of its own, 95 % intervals, differences paired by seed. DM: {s['iterations']} iterations of {s['batch_real']} real images a class, lr {s['lr_img']:g}; the network that herding and k-centre look through and that DAE asks is right on "
            + ', '.join(f'{v:.1%} ({k})' for k,v in r['teacher'].items()) + f".\n\nWhat the settings were chosen by, `{c['command']}`, CIFAR-10, one column a seed:\n\n{tried}")

def percent(values):
    "Mean and interval in percent, or the only value"
    return pm(mean_ci(values)) if len(values)>1 else f'{100*values[0]:.1f}'

def stated(o): return '' if o.get('published') is None else f"{100*o['published']:.1f}"

def no_rows(name):
    file = here/'results'/f'{name}.json'
    return not (file.exists() and read_json(file)['rows'])

def gpu_steps():
    "What bench/gpu.py has given, by step"
    file = here/'results'/'gpu.json'
    return read_json(file)['steps'] if file.exists() else {}

def device(step): return step['versions'].get('gpu', f"{step['versions']['cores']} CPU cores")

def gpu_rows(name):
    "Rows of a table that were measured on a GPU, with its name"
    return [dict(r, on=device(s)) for s in gpu_steps().values() for r in s.get('rows', []) if r.get('table')==name]

def with_gpu(name, at):
    "Rows of a results file, and those of its table that a GPU has given"
    own = [] if no_rows(name) else [dict(r, on=f"{r0['versions']['cores']} CPU cores") for r0 in [read_json(here/'results'/f'{name}.json')] for r in r0['rows']]
    return own+gpu_rows(at)

def published():
    "Accuracy over iterations of each method"
    found = with_gpu('cifar10_published', 'cifar10_ipc1')
    if not found: return 'Not measured yet.'
    rows = [[o['method'], o['iteration'], o['labels'], percent(o['accuracy']), len(o['accuracy']), stated(o), o['on']] for o in found]
    text = table(['method', 'iteration', 'labels', 'accuracy, %', 'students', 'published, %', 'on'], rows, 'lrlrrrl')
    if no_rows('cifar10_published'): return text
    r = read_json(here/'results/cifar10_published.json')
    experts = '; '.join(f"{k} {100*v['accuracy'][0][-1]:.1f} % after {v['epochs'][-1]} epochs" for k,v in r['experts'].items() if v) or 'not recorded yet'
    took = '; '.join(f"{k} {v['seconds_an_iteration']} s" for k,v in r['matching'].items()) or 'none yet'
    return text + f"\n\n`{r['command']}`: {r['seconds']:.0f} s so far, experts aside; an expert: {experts}; an iteration: {took}; one set a method, 95 % intervals over students; {on(r)}."

def resnet():
    "Sets under each kind of label"
    found = with_gpu('resnet_cifar10', 'resnet_cifar10')
    if not found: return 'Not measured yet.'
    def mean(v): return f'{sum(v)/len(v):.0f}'
    rows = [[o['method'], o['labels'], percent(o['accuracy']), len(o['accuracy']), stated(o), mean(o['set_seconds']), mean(o['student_seconds']), o['on']] for o in found]
    text = table(['method', 'labels', 'accuracy, %', 'sets', 'published, %', 'seconds a set', 'seconds a student', 'on'], rows, 'llrrrrrl')
    if no_rows('resnet_cifar10'): return text
    r = read_json(here/'results/resnet_cifar10.json')
    return text + f"\n\n`{r['command']}`: teacher {100*r['rows'][0]['teacher']:.1f} %, every seed a set and a student of its own, 95 % intervals; {on(r)}."

def timed_forms(rows, per, unit):
    "Rows of `gpu_steps.timed_form`, times to the first of its group"
    lines,first = [],{}
    for o in rows:
        if 'why' in o or 'loss' in str(o.get('float32')): continue
        if 'seconds_a_step' not in o: lines.append([o['name'], '', '', '', '', o.get('error', '')]); continue
        base = first.setdefault(o.get('ipc'), o[per])
        lines.append([o['name'], f'{1000*o[per]:.2f}', f'{o[per]/base:.2f}', f"{o['gb']:.2f}", '' if o['error'] is None else f"{o['error']:.0e}", ''])
    return table(['form', unit, 'to the first', 'GB', 'error', 'did not run'], lines, 'lrrrrl')

def expert_rates(rows):
    "Experts an hour by form"
    def share(o): return f"{max(o['share_of_limit'].values()):.0%}" if o['share_of_limit'] else ''
    lines = [[o['name'], f"{o['experts_an_hour']:.0f}", f"{o['ms_a_step']:.2f}", share(o), f"{o['gb']:.2f}", ''] if 'ms_a_step' in o else [o['name'], '', '', '', '', o['error']] for o in rows]
    return table(['steps and form', 'experts an hour', 'ms a step and expert', 'of the limit', 'GB', 'did not run'], lines, 'lrrrrl')

def curves(rows):
    "Accuracy by method and iteration"
    return table(['method', 'iteration', 'labels', 'accuracy, %', 'students', 'published, %', 'seconds an iteration'],
                 [[o['method'], o['iteration'], o['labels'], percent(o['accuracy']), len(o['accuracy']), stated(o), f"{o['seconds_an_iteration']:.2f}" if 'seconds_an_iteration' in o else ''] for o in rows], 'lrlrrrr')

def recorded(step): return f"{step['experts']} experts, {step['seconds_each']:.0f} s each, {step['n_train']:,} training images; the first: " + ', '.join(f'{100*a:.1f} % after {e} epochs' for e,a in zip(step['epochs'], step['accuracy']))

def failures(rows):
    "What ran, and what did not"
    bad = [f"{o['name']}: {o.get('error') or o['failed']}" for o in rows if o.get('error') or o.get('failed')]
    return f'{len(rows)-len(bad)} of {len(rows)} run.' + ''.join(f'\n- {o}' for o in bad)

GPU_SHOWN = {'smoke': lambda s: failures(s['rows']), 'matching': lambda s: timed_forms(s['rows'], 'seconds_a_step', 'ms a step'), 'release': lambda s: timed_forms(s['rows'], 'seconds_a_step', 'ms a step'),
             'cifar_experts': recorded, 'nette_experts': recorded, 'experts': lambda s: expert_rates(s['rows'])}

def gpu():
    "What each step of bench/gpu.py tells, and what it has given"
    found,res = gpu_steps(),[]
    for o in QUEUE:
        s = found.get(o.name)
        if s is None: given = 'Not measured yet.'
        elif 'rows' not in s and 'experts' not in s: given = f"It died: `{s.get('error', '')[-200:]}`"
        else: given = GPU_SHOWN.get(o.name, lambda s: curves(s['rows']))(s) if o.name!='resnets' else 'Rows are above, under the decoupled protocol.'
        where = f" On {device(s)}, torch {s['versions']['torch']}, {s['seconds']:.0f} s{'' if s.get('done') else ', not finished'}." if s and 'versions' in s else ''
        res.append(f'**{o.name}**. {o.tells}.{where}\n\n{given}')
    return '\n\n'.join(res)

def faults():
    "What was attacked, how often, and how often it went wrong"
    file = here/'results/faults.json'
    if not file.exists(): return 'Not run yet.'
    r = read_json(file)
    rows = [[k, o['tried'], o['failed'], ', '.join(f"{n} {v['tried']}" for n,v in o['by'].items())] for k,o in r['attacks'].items()]
    return table(['attack', 'times', 'failed', 'on'], rows, 'lrrl')+f"\n\n`{r['command']}`, {r['versions']['cores']} CPU cores, torch {r['versions']['torch']}."

text = f"""# Measurements

Made by `python bench/report.py` from the JSON files in `results/`; each file says machine, versions and the command that repeats it.

## The demo: digits, one image a class by matching trajectories; scenes with digits, ten by NRR-DD

{accuracies('demo_short')}

## The full demo: scenes with digits, EDF with one image a class, NRR-DD with ten

{accuracies('demo')}

## CIFAR-10, 16x16, ten images a class

{accuracies('cifar10_edf')}

10,000 training and 2,000 test images, JPEG-encoded CIFAR-10; one distillation a method. `--full` is the release's size, for a GPU.

## CIFAR-10 by the published settings: 32x32, ZCA, ConvNet-D3 W128, one image a class

MTT and DATM have the settings of their releases. EDF's release has neither CPD nor DAE for one image a class of CIFAR-10: the row `edf` is DATM's settings with CPD (.25) and DAE (beta 1, new maps every 100 iterations).

{published()}

## The decoupled protocol: CIFAR-10, 32x32, ResNet-18, ten images a class

{resnet()}

## Choosing real images, and distribution matching: 16x16, ten images a class, hard labels

{dm()}

## CPD and DAE over scenes of growing complexity

{complexity()}

## All methods under one protocol: CIFAR-10, 16x16, ten images a class

{compare_table()}

Recorded before the matched random images of DATM and EDF got the labels of the experts (here they have the teacher's, which makes about half of the two leads of 7 points), before held-out images in a set stopped judging its rate, and with one set of each method but RDED and random real images, where `dd_compare` now makes one a student.

## Which network? Ten images a class in place of all

{selection()}

## The matching gradient: time and memory

{matching()}

## How far from the machine's limit

{roofline()}

## How it grows

{growth()}

## On one GPU

`bench/gpu.py` is a queue of measurements for half an hour of one GPU, most telling first. Every step is a process of its own, keeps what it has found as soon as it is there, and goes on at the next call. On a machine with torch, torchvision, matplotlib, pandas, scipy, scikit-learn, pyarrow, psutil and safetensors, but no network:

    bash bench/gpu.sh fetch                        # before, where there is a network: 2 MB of wheels
    bash bench/gpu.sh pieces CIFAR10 IMAGENETTE    # data in pieces that can be carried, 54 MB at most
    bash bench/gpu.sh put DATA                     # there, for each piece that was carried: copies it to the folder DATA
    bash bench/gpu.sh install && export PYTHONPATH=$PWD/.gpu/site:$PWD
    python bench/gpu.py --minutes 9 --runs RUNS --cifar10 DATA/cifar10 --imagenette DATA/imagenette128 --edf CHECKOUT
    bash bench/gpu.sh back RUNS OUT                # results, and checkpoints without experts, in parts of 15 MB

`RUNS/gpu.json` has all results: copy it to `bench/results/gpu.json` and run `python bench/report.py`. The lossless CIFAR-10 of 106 MB goes in two or three pieces; with one piece of training images and the test images everything runs as well, and results say how many images there were. `--plan_only` lists what a go would do, `--only` names steps, `--tiny` rehearses everything on the CPU. A step without its data or its checkout is left out, and one that has died twice is not tried again: delete its file in RUNS/steps to try again. Students' accuracies on CIFAR-10 with one image a class and those of the decoupled protocol stand in the tables above, beside the CPU's.

{gpu()}

## Students in one program (vmap) against one after another, seconds as a ratio

{students()}

## Recording experts

{experts()}

What students learn from sets that such experts made, DATM with one image a class on cluttered digits:

{accuracies('expert_precision')}

## Making labels, and students that read them

{relabel()}

## Scoring crops and refining images against RDED's and SRe2L's code

{nrr_speed()}

## NRR-DD and its neighbours: CIFAR-10, 16x16, ten images a class

{nrr_table()}

`--full` is the paper's size (ResNet-18, 32x32, 1, 10 and 50 images a class), for a GPU; it has not been run.

## NRR-DD, one choice at a time

{nrr_choices()}

## What it survives

Each command and function that keeps files was killed at every file operation and at random times and called again; each kind of file was damaged; each setting was changed in a folder that held a result; disks were full or refused. A failure is a result with other bits than an undisturbed run's, an old result in silence, an error that does not name the file, a traceback of a command, or a file that is left over.

{faults()}

What counts as failed of two at once: the second command got through between two short locks of the first, with the same files at the end. Of full disks: a folder that was there already was opened or asked for, and nothing had to be written.

## Sets under each kind of label

{nrr_labels()}

## What labels teach, by the bytes they take

{labels()}
"""
(here/'README.md').write_text(text)
