// The daemon killed while a device is being written: what it was told is not done a second time, and whoever sends the
// command again is told that nobody knows.

import { expect, it } from 'vitest';
import { startModbusServer } from '../sim/modbus-server.ts';
import { run } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';
import { runFieldpost, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.68.1';
const WRITE_COIL = 5;

interface Answer {
  readonly id: string;
  readonly status: number;
  readonly code?: string;
  readonly values?: Readonly<Record<string, unknown>>;
}

it('does nothing twice, killed while a slow device is being written', { timeout: 120_000 }, async () => {
  using directory = temporaryDirectory();
  await using broker = await startMosquitto({ address: ADDRESS });
  await using witness = await subscribe(broker.url);
  const plc = await startModbusServer({ host: ADDRESS });
  const memory = plc.addDevice(1, { size: 16 });
  const webPort = await freePort(ADDRESS);
  const config = `
gateway: { id: plant-7 }
adapters:
  bus-1:
    type: modbus
    transport: { kind: tcp, host: ${ADDRESS}, port: ${plc.port} }
    devices:
      plc:
        poll_interval_ms: 200
        timeout_ms: 20000
        points: { relay: { register: coil:0, writable: true } }
upstream: { type: mqtt, url: '${broker.url}' }
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`;
  const start = () => startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory });
  const writes = (): number => plc.requests.filter(({ functionCode }) => functionCode === WRITE_COIL).length;
  const answers = (id: string): Answer[] =>
    witness.received
      .filter(({ topic }) => topic === `fieldpost/plant-7/plc/response/${id}`)
      .map(({ text }) => JSON.parse(text) as Answer);
  const send = (id: string, relay: boolean): Promise<string> => {
    const where = ['-h', broker.address, '-p', String(broker.port), '-t', 'fieldpost/plant-7/plc/command/write'];
    return run('mosquitto_pub', [...where, '-q', '1', '-m', JSON.stringify({ id, values: { relay } })]);
  };
  const ask = async (id: string, relay: boolean): Promise<Answer> => {
    const before = answers(id).length;
    await send(id, relay);
    await waitFor(() => answers(id).length > before, { timeoutMs: 20_000, what: `the answer to ${id}` });
    return answers(id).at(-1) as Answer;
  };
  const isPolled = (from: number) => (): boolean =>
    witness.received.slice(from).some(({ topic, text }) => topic.endsWith('/plc/telemetry') && text.includes('relay'));

  try {
    const first = await start();
    await waitFor(isPolled(0), { timeoutMs: 20_000, what: 'the device to be polled' });
    // It obeys, and takes its time to say so.
    plc.behave(({ functionCode }) => (functionCode === WRITE_COIL ? { kind: 'silence' } : undefined));
    await send('slow', true);
    await waitFor(() => writes() === 1, { timeoutMs: 20_000, what: 'the write to be under way' });
    await first.kill('SIGKILL');
    expect(answers('slow')).toEqual([]);
    expect(memory.coil[0]).toBe(1);

    plc.behave(() => undefined);
    memory.coil[0] = 0;
    const from = witness.received.length;
    await using second = await start();
    await waitFor(isPolled(from), { timeoutMs: 20_000, what: 'the device to be polled again' });
    for (let count = 0; count < 2; count += 1) {
      expect(await ask('slow', true)).toMatchObject({ id: 'slow', status: 500, code: 'GW_COMMAND_UNKNOWN' });
    }
    expect(writes()).toBe(1);
    expect(memory.coil[0]).toBe(0);

    // Another id is another command.
    expect(await ask('fresh', true)).toEqual({ id: 'fresh', status: 200, values: { relay: true } });
    expect(memory.coil[0]).toBe(1);
    expect(writes()).toBe(2);

    const { code, out, err } = await runFieldpost(['audit', '--json', '--data', second.dataDirectory]);
    expect(code, `${err}${second.log().slice(-3000)}`).toBe(0);
    const newest = JSON.parse(out.slice(0, out.indexOf('\n'))) as unknown;
    expect(newest).toMatchObject({
      actor: 'upstream:$upstream',
      device: 'plc',
      id: 'fresh',
      request: '{"relay":true}',
      answer: { status: 200, values: { relay: true } },
    });
    const shown = await runFieldpost(['audit', '--limit', '1', '--data', second.dataDirectory]);
    expect(shown.out).toMatch(
      /^\S+Z {2}upstream:\$upstream {2}plc {2}write \{"relay":true\} {2}200 \{"relay":true\}\n$/,
    );
    expect((await runFieldpost(['audit', '--limit', '0', '--data', second.dataDirectory])).code).toBe(2);
    const page = (await (await second.get('/api/audit?limit=1')).json()) as unknown[];
    expect(page).toEqual([newest]);
    expect((await second.get('/api/audit?limit=0')).status).toBe(400);
  } finally {
    await plc.close();
  }
});
