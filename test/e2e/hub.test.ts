// The local hub on the built daemon, with nothing but the connection strings that the command line prints: a device on each of the
// five transports of the SDK, and a back end that reads telemetry, sends commands with feedback, calls methods and writes twins.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { runFieldpost } from './daemon-process.ts';

const ADDRESS = '127.0.99.7';
const TRANSPORTS = ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws', 'http'] as const;

interface ReadEvent {
  readonly body: unknown;
  readonly properties: unknown;
  readonly systemProperties: Readonly<Record<string, unknown>>;
}

interface TwinJson {
  readonly properties: { readonly reported: Readonly<Record<string, unknown>> };
}

describe('the local hub', () => {
  let directory: TempDir;
  let daemon: HubDaemon;
  let backEnd: SdkChild;

  /** What `fieldpost hub …` prints. */
  async function hub(...args: readonly string[]): Promise<string> {
    const { code, out, err } = await runFieldpost(['hub', ...args, '--data', daemon.dataDirectory]);
    if (code !== 0) throw new Error(`fieldpost hub ${args.join(' ')}: ${err}`);
    return out.trim();
  }

  beforeAll(async () => {
    directory = createTempDir('hub');
    daemon = await startHubDaemon({ address: ADDRESS, directory, built: true });
    backEnd = startBackEnd({ hub: daemon });
    await backEnd.call('openRegistry', await hub('connection-string'));
    await backEnd.call('openClient', await hub('connection-string', '--policy', 'service'));
    await backEnd.call('onFeedback');
    await backEnd.call('readEvents', { connectionString: await hub('connection-string', '--events') });
  });

  afterAll(async () => {
    await backEnd.kill();
    await daemon.kill('SIGKILL');
    directory.remove();
  });

  // Side by side: feedback is batched for 15 s.
  it.concurrent.each(TRANSPORTS)('serves a device and its back end over %s', async (transport) => {
    const deviceId = `device-${transport}`;
    await hub('identity', 'create', deviceId);
    await using device = startDevice({ hub: daemon });
    await device.call('open', await hub('connection-string', '--device', deviceId), transport);
    if (transport === 'http') await device.call('setOptions', { interval: 1 });

    await device.call('send', { body: '{"t":21}', properties: { kind: transport } });
    const isOwn = ({ systemProperties }: ReadEvent): boolean =>
      systemProperties['iothub-connection-device-id'] === deviceId;
    expect(await backEnd.nextEvent<ReadEvent>('event', isOwn, 30_000)).toMatchObject({
      properties: { kind: transport },
    });

    await device.call('onCommands', 'complete');
    const messageId = `m-${transport}`;
    await backEnd.call('sendCommand', deviceId, { body: 'open', system: { messageId, ack: 'full' } });
    expect(await device.nextEvent('command')).toMatchObject({ body: 'open', messageId });
    type Record = { readonly originalMessageId: string; readonly statusCode: string };
    // One batch may have the records of several devices.
    const isTold = (): boolean =>
      backEnd.events.some(
        ({ event, data }) =>
          event === 'feedback' &&
          (data as readonly Record[]).some(
            (record) => record.originalMessageId === messageId && record.statusCode === 'Success',
          ),
      );
    await waitFor(isTold, { timeoutMs: 40_000, what: 'the feedback' });
    if (transport === 'http') return;

    await device.call('getTwin');
    await device.call('onDesired');
    await backEnd.call('registry', 'updateTwin', deviceId, { properties: { desired: { rate: 5 } } }, '*');
    await device.nextEvent<{ readonly rate?: number }>('desired', ({ rate }) => rate === 5);
    await device.call('report', { rate: 5 });
    const twin = (await backEnd.call('registry', 'getTwin', deviceId)) as TwinJson;
    expect(twin.properties.reported).toMatchObject({ rate: 5 });

    await device.call('onMethod', 'reboot', { status: 200, payload: { done: true } });
    const call = { methodName: 'reboot', payload: { now: 1 }, connectTimeoutInSeconds: 10 };
    expect(await backEnd.call('invoke', deviceId, call)).toEqual({ status: 200, payload: { done: true } });
  });
});
