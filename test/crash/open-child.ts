// A process that opens a store, to be killed meanwhile. Arguments: `log` or `state`, and its directory.

import { SystemClock } from '../../src/platform/clock.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import { report } from '../support/child.ts';
import { openTestOutbox } from '../support/outbox.ts';

const [store = '', directory = ''] = process.argv.slice(2);
report({ opening: true });
if (store === 'log') await openTestOutbox(directory);
else await openStateStore({ directory, clock: new SystemClock(), telemetry: { emit: () => {} } });
report({ opened: true });
setInterval(() => {}, 1000);
