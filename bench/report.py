"Write bench/README.md from the JSON files in bench/results: python bench/report.py"
from pathlib import Path
from edf_nrr.core import mean_ci, read_json, results_table

here = Path(__file__).parent
pm = lambda v: '{:.1f} ± {:.1f}'.format(*(100*o for o in v))
signed = lambda v: '{:+.1f} ± {:.1f}'.format(*(100*o for o in v))

def accuracies(name): return results_table(here/'results'/f'{name}.json').data

def object_fraction():
    "Accuracy and paired difference to DATM, a row a method, a column pair a fraction"
    r = read_json(here/'results/object_fraction.json')
    fs = sorted({o['object_fraction'] for o in r['rows']}, reverse=True)
    names = list(dict.fromkeys(o['method'] for o in r['rows']))
    at = {(o['method'], o['object_fraction']): o for o in r['rows']}
    lines = ['| method | ' + ' | '.join(f'{f:g}: accuracy, % | to DATM' for f in fs) + ' |', '|:--|' + '--:|--:|'*len(fs)]
    for m in names:
        cols = [f'{pm(mean_ci(at[m,f]["per_seed"]))} | {"" if m=="datm" else signed(at[m,f]["minus_datm"])}' for f in fs]
        lines.append(f'| {m} | ' + ' | '.join(cols) + ' |')
    o = r['rows'][0]
    return '\n'.join(lines) + (f"\n\n`{r['command']}`: {r['seconds']:.0f} s on {r['versions']['cores']} CPU cores, of which {r['versions']['threads']} was used; {o['distillation_seeds']} distillations "
                               f"a method and fraction with {o['students_each']} students each, 95 % intervals over distillations, differences paired by seed.")

def students():
    r = read_json(here/'results/students.json')
    lines = ['| network | image side | IPC | together / one by one | min–max |', '|:--|--:|--:|--:|--:|']
    lines += [f"| {o['arch']} | {o['size']} | {o['ipc']} | {o['ratio_median']:.2f} | {o['ratio_min']:.2f}–{o['ratio_max']:.2f} |" for o in r['rows']]
    return '\n'.join(lines) + f"\n\n`{r['command']}`: {r['seeds']} students, median of {r['rounds']} turns; torch {r['versions']['torch']}, {r['versions']['threads']} threads."

def labels():
    "Bytes a view and accuracy of every kind of label, a column pair a data set"
    r = read_json(here/'results/labels.json')
    sets,at = list(r['data']),{(o['data'], o['labels']): o for o in r['rows']}
    cell = lambda o: f"{o['bytes']:.3g} | {pm(mean_ci(o['accuracy']))}" if o else ' | '
    lines = ['| labels | ' + ' | '.join(f'{d}: bytes a view | accuracy, %' for d in sets) + ' |', '|:--|' + '--:|--:|'*len(sets)]
    lines += [f"| {k} | " + ' | '.join(cell(at.get((d, k))) for d in sets) + ' |' for k in (o['labels'] for o in r['rows'] if o['data']==sets[-1])]
    o,teachers = r['rows'][0],', '.join(f"{d} {v['teacher_accuracy']:.1%}" for d,v in r['data'].items())
    return '\n'.join(lines) + (f"\n\n`{r['command']}`: {r['seconds']:.0f} s on {r['versions']['cores']} CPU cores, of which 1 was used, without the teachers ({teachers}); {o['ipc']} random real images a class, "
                               f"students of {o['arch']}, last epoch, 95 % intervals over {len(o['seeds'])} seeds, each with images, views and student of its own.")

text = f"""# Measurements

Made by `python bench/report.py` from the JSON files in `results/`; each file says machine, versions and the command that repeats it.

## The demo: cluttered digits, one image a class

{accuracies('demo')}

## CIFAR-10, 16x16, ten images a class

{accuracies('cifar10_edf')}

10,000 training and 2,000 test images, JPEG-encoded CIFAR-10; one distillation a method. `--full` is the release's size, for a GPU.

## CPD and DAE over the share of the image that the object fills

{object_fraction()}

## Students in one program (vmap) against one after another, seconds as a ratio

{students()}

## What labels teach, by the bytes they take

{labels()}
"""
(here/'README.md').write_text(text)
