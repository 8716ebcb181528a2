// The daemon killed while MQTT devices publish: whatever was acknowledged to them is in the outbox afterwards.

import mqtt from 'mqtt';
import { expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { runFieldpost, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.65.1';
const LIVES = 3;

it('loses nothing that was acknowledged, killed at any instant', { timeout: 120_000 }, async () => {
  using directory = temporaryDirectory();
  const [port, webPort, nobody] = [await freePort(ADDRESS), await freePort(ADDRESS), await freePort(ADDRESS)];
  const config = `
adapters:
  field:
    type: mqtt
    listen: { address: ${ADDRESS}, port: ${port} }
    anonymous: loopback
    max_messages_per_sec: 0
    topics: [{ topic: 'sensors/{device_id}/telemetry' }]
upstream: { type: mqtt, url: 'mqtt://${ADDRESS}:${nobody}' }
web: { address: ${ADDRESS}, port: ${webPort} }
`;
  const acknowledged = new Set<string>();
  let dataDirectory = '';
  for (let life = 0; life < LIVES; life += 1) {
    const daemon = await startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory });
    ({ dataDirectory } = daemon);
    const device = await mqtt.connectAsync(`mqtt://${ADDRESS}:${port}`, { reconnectPeriod: 0 });
    device.on('error', () => {});
    const target = acknowledged.size + 300 * (life + 1);
    for (let count = 0; count < 5000; count += 1) {
      const body = `life-${life}-${count}`;
      device.publish('sensors/a/telemetry', body, { qos: 1 }, (error) => {
        if (error === undefined || error === null) acknowledged.add(body);
      });
    }
    // In the middle of it: some are answered, some are stored and not answered, some are neither.
    await waitFor(() => acknowledged.size >= target, {
      timeoutMs: 20_000,
      everyMs: 1,
      what: 'some to be acknowledged',
    });
    await daemon.kill('SIGKILL');
    device.end(true);
  }
  const { out, code } = await runFieldpost(['buffer', 'export', '--data', dataDirectory]);
  const stored = new Set(out.match(/life-\d+-\d+/g) ?? []);
  for (const line of out.split('\n')) {
    const body = /"body":"([A-Za-z0-9+/=]+)"/.exec(line)?.[1];
    if (body !== undefined) stored.add(Buffer.from(body, 'base64').toString());
  }
  expect(code).toBe(0);
  expect([...acknowledged].filter((body) => !stored.has(body))).toEqual([]);
  expect(acknowledged.size).toBeGreaterThan(300);
});
