// Runs one bench file: `node child.ts FILE CONTEXT`, the context as JSON. Reports lines of JSON to its parent.

import { onCommand, report } from '../support/child.ts';
import type { BenchContext, BenchModule } from './bench.ts';

// The parent's end closes the pipe; nothing is to be left behind then.
process.stdin.on('end', () => process.exit(1));
onCommand(() => {});

const [file = '', context = '{}'] = process.argv.slice(2);
const bench = (await import(file)) as BenchModule;
const rows = await bench.run({
  ...(JSON.parse(context) as Omit<BenchContext, 'progress'>),
  progress: (text) => report({ progress: text }),
});
report({ rows });
process.exit(0);
