// A stranger who guesses: opens connections to the hub and logs in with wrong keys. Arguments: the target as JSON, attempts a
// second, and among how many devices. Reports the number of attempts each second.

import { report } from '../support/child.ts';
import { connectPacket, openTls, type HubTarget } from './hub-client.ts';
import { logIn } from './mqtt-load.ts';

const [json = '{}', perSecond = '1000', devices = '1'] = process.argv.slice(2);
const target = JSON.parse(json) as HubTarget;
const wrong = Buffer.alloc(32, 9).toString('base64');
const startedMs = performance.now();
let attempts = 0;

async function guess(n: number): Promise<void> {
  const socket = await openTls(target).catch(() => undefined);
  if (socket === undefined) return;
  await logIn(socket, connectPacket(`device-${n % Number(devices)}`, wrong), 'a stranger').catch(() => {});
  socket.destroy();
}

setInterval(() => {
  const due = ((performance.now() - startedMs) / 1000) * Number(perSecond);
  for (; attempts < due; attempts += 1) void guess(attempts);
}, 5);
setInterval(() => report({ attempts }), 1000);
