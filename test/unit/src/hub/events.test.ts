// Telemetry in, events out, over a real outbox in memory.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DeviceId } from '../../../../src/core/device.ts';
import { GatewayError, isGatewayError } from '../../../../src/core/errors.ts';
import type { Principal } from '../../../../src/core/hub/access.ts';
import type { DeviceIdentity, IdentityRegistry, ModuleIdentity } from '../../../../src/core/hub/identity.ts';
import type { Events, HubEvent, TelemetryIntake } from '../../../../src/core/hub/messaging.ts';
import type { TelemetryMessage } from '../../../../src/core/hub/telemetry-message.ts';
import type { Message } from '../../../../src/core/message.ts';
import type { Outbox } from '../../../../src/core/outbox.ts';
import { createEvents } from '../../../../src/hub/events.ts';
import { createTelemetryIntake } from '../../../../src/hub/telemetry-intake.ts';
import { iotHubError, iotHubErrorName } from '../../../../src/iothub/errors.ts';
import { eventsPlace, eventsStream, partitionOf } from '../../../../src/iothub/events-stream.ts';
import { createRouter } from '../../../../src/pipeline/route.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createMemoryOutbox } from '../../../../src/store/memory-outbox.ts';
import { message, timestamp } from '../../../support/builders.ts';
import { DROPPING } from '../../../support/outbox.ts';

const AUTH = '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}';
const LIMIT = { maxMessages: 100, maxBytes: 1e6 };
const clock = new SystemClock();

function device(deviceId: string, moduleId?: string): Principal {
  return {
    hubId: 'hub',
    kind: moduleId === undefined ? 'device' : 'module',
    identity: { deviceId, ...(moduleId === undefined ? {} : { moduleId }) },
    permissions: ['DeviceConnect'],
    scope: '',
    grantedBy: 'key:primary',
    authMethod: AUTH,
    generationId: '63881',
  };
}

const POLICY: Principal = {
  hubId: 'hub',
  kind: 'policy',
  policy: 'device',
  permissions: ['DeviceConnect'],
  scope: '',
  grantedBy: 'key:primary',
  authMethod: '{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
};

function telemetry(text: string, fields: Partial<TelemetryMessage> = {}): TelemetryMessage {
  return { body: Buffer.from(text), properties: {}, systemProperties: {}, ...fields };
}

/** The name of the error that a promise rejects with. */
async function refusal(work: Promise<unknown>): Promise<string | undefined> {
  const [result] = await Promise.allSettled([work]);
  return result.status === 'rejected' ? iotHubErrorName(result.reason) : 'not refused';
}

const identities: Pick<IdentityRegistry, 'device' | 'module'> = {
  device: (_hubId, deviceId) =>
    deviceId === 'gone'
      ? Promise.reject(iotHubError('DeviceNotFound', 'no such device'))
      : Promise.resolve({
          deviceId,
          generationId: `g-${deviceId}`,
          status: deviceId === 'off' ? 'disabled' : 'enabled',
        } as DeviceIdentity),
  module: (_hubId, ref) => Promise.resolve({ ...ref, generationId: 'g-module' } as ModuleIdentity),
};

describe('telemetry and events of a hub', () => {
  let outbox: Outbox;
  let events: Events;
  let intake: TelemetryIntake;
  let failure: GatewayError | undefined;
  const route = createRouter({ endpoints: [], routes: [], events: (sent) => eventsPlace(sent, 'hub', 4) });

  async function store(messages: readonly Message[], signal?: AbortSignal): Promise<void> {
    if (failure !== undefined) throw failure;
    await outbox.append(
      messages.map((sent) => ({ message: sent, ...route.route(sent), queues: [] })),
      signal === undefined ? {} : { signal },
    );
  }

  async function readAll(deviceId: string): Promise<readonly HubEvent[]> {
    return events.read('hub', partitionOf(deviceId, 4), 0, LIMIT, new AbortController().signal);
  }

  beforeEach(async () => {
    failure = undefined;
    outbox = createMemoryOutbox({
      gatewayId: 'gateway' as DeviceId,
      clock,
      random: systemRandom,
      settings: DROPPING,
      queues: [],
    });
    await outbox.setStreams([{ name: eventsStream('hub'), partitions: 4, retentionSecs: 3600, maxBytes: 1e7 }]);
    events = createEvents({ outbox, generationOf: (_hubId, deviceId) => (deviceId === 'meter-1' ? 'g-1' : undefined) });
    intake = createTelemetryIntake({ ingress: { messages: store }, identities, clock });
  });
  afterEach(() => outbox.close());

  it('gives what a device sent, with the stamps of the hub', async () => {
    const beforeMs = Date.now();
    await intake.send(device('d1'), { deviceId: 'd1' }, [
      telemetry('{"a":1}', {
        properties: { level: 'alarm' },
        systemProperties: { messageId: 'm1', contentType: 'application/json', contentEncoding: 'utf-8' },
        modelId: 'dtmi:com:example:Thermostat;1',
      }),
      telemetry('two'),
    ]);
    const [first, second] = await readAll('d1');
    expect({ ...first, body: Buffer.from(first?.body ?? []).toString() }).toEqual({
      sequenceNumber: 0,
      offset: 0,
      enqueuedTimeMs: first?.enqueuedTimeMs,
      partitionKey: 'd1',
      body: '{"a":1}',
      properties: { level: 'alarm' },
      systemProperties: { messageId: 'm1', contentType: 'application/json', contentEncoding: 'utf-8' },
      stamps: {
        'iothub-connection-device-id': 'd1',
        'iothub-connection-auth-method': AUTH,
        'iothub-connection-auth-generation-id': '63881',
        'iothub-message-source': 'Telemetry',
        'dt-dataschema': 'dtmi:com:example:Thermostat;1',
      },
    });
    expect(first?.enqueuedTimeMs).toBeGreaterThanOrEqual(beforeMs);
    expect(second).toMatchObject({ sequenceNumber: 1, systemProperties: {}, properties: {} });
    expect(second?.stamps).not.toHaveProperty('dt-dataschema');
  });

  it('lets nobody speak for another, by credentials or by properties', async () => {
    expect(await refusal(intake.send(device('d1'), { deviceId: 'd2' }, [telemetry('x')]))).toBe(
      'IotHubUnauthorizedAccess',
    );
    const module = device('d1', 'm');
    expect(await refusal(intake.send(module, { deviceId: 'd1' }, [telemetry('x')]))).toBe('IotHubUnauthorizedAccess');
    expect(await refusal(intake.send(device('d1'), { deviceId: 'd1', moduleId: 'm' }, [telemetry('x')]))).toBe(
      'IotHubUnauthorizedAccess',
    );
    const reader: Principal = { ...POLICY, permissions: ['RegistryRead'] };
    expect(await refusal(intake.send(reader, { deviceId: 'd1' }, [telemetry('x')]))).toBe('IotHubUnauthorizedAccess');
    expect(outbox.stats().tailOffset).toBe(0);

    const properties = {
      'IoTHub-Connection-Device-Id': 'other',
      'iothub-message-source': 'twinChangeEvents',
      own: '1',
    };
    await intake.send(module, { deviceId: 'd1', moduleId: 'm' }, [telemetry('x', { properties })]);
    const [event] = await readAll('d1');
    expect(event?.properties).toEqual({ own: '1' });
    expect(event?.stamps).toMatchObject({
      'iothub-connection-device-id': 'd1',
      'iothub-connection-module-id': 'm',
      'iothub-message-source': 'Telemetry',
    });
  });

  it('asks the registry for whom a policy speaks', async () => {
    expect(await refusal(intake.send(POLICY, { deviceId: 'gone' }, [telemetry('x')]))).toBe('DeviceNotFound');
    expect(await refusal(intake.send(POLICY, { deviceId: 'off' }, [telemetry('x')]))).toBe('DeviceDisabled');
    expect(await refusal(intake.send(POLICY, { deviceId: 'a b' }, [telemetry('x')]))).toBe('ArgumentInvalid');
    await intake.send(POLICY, { deviceId: 'd1' }, [telemetry('x')]);
    await intake.send(POLICY, { deviceId: 'd1', moduleId: 'm' }, [telemetry('x')]);
    const generations = (await readAll('d1')).map(({ stamps }) => stamps['iothub-connection-auth-generation-id']);
    expect(generations).toEqual(['g-d1', 'g-module']);
  });

  it('refuses what is too large, all of it, and says when it cannot store now', async () => {
    const large = telemetry('x', { body: Buffer.alloc(262_140), properties: { abc: 'de' } });
    expect(await refusal(intake.send(device('d1'), { deviceId: 'd1' }, [telemetry('x'), large]))).toBe(
      'MessageTooLarge',
    );
    const longId = telemetry('x', { systemProperties: { messageId: 'm'.repeat(129) } });
    expect(await refusal(intake.send(device('d1'), { deviceId: 'd1' }, [longId]))).toBe('ArgumentInvalid');
    expect(outbox.stats().tailOffset).toBe(0);
    await intake.send(device('d1'), { deviceId: 'd1' }, [telemetry('x', { body: Buffer.alloc(262_144) })]);
    for (const [code, name] of [
      ['GW_OUTBOX_FULL', 'ThrottlingException'],
      ['GW_OUTBOX_BUSY', 'ThrottlingException'],
      ['GW_STORE_WRITE', 'ServiceUnavailable'],
    ] as const) {
      failure = new GatewayError(code, 'it cannot');
      expect(await refusal(intake.send(device('d1'), { deviceId: 'd1' }, [telemetry('x')]))).toBe(name);
    }
    failure = new GatewayError('GW_ABORTED', 'gone');
    const [aborted] = await Promise.allSettled([intake.send(device('d1'), { deviceId: 'd1' }, [telemetry('x')])]);
    expect(aborted.status === 'rejected' && isGatewayError(aborted.reason, 'GW_ABORTED')).toBe(true);
  });

  it("gives the messages of the gateway's own adapters as those of the device's identity", async () => {
    await store([message({ device: 'meter-1', time: timestamp({ clock: 'unknown', bootId: 'b', monotonicMs: 500 }) })]);
    await outbox.recordClockOffset('b', 1_767_000_000_000);
    const [event] = await readAll('meter-1');
    expect(event?.stamps).toMatchObject({
      'iothub-connection-device-id': 'meter-1',
      'iothub-connection-auth-generation-id': 'g-1',
      'iothub-message-source': 'Telemetry',
    });
    expect(event?.systemProperties).toEqual({
      messageId: `${outbox.epoch}.meter-1.1`,
      creationTimeUtc: '2025-12-29T09:20:00.500Z',
    });
  });

  it('waits for what comes, and ends when it is told to', async () => {
    const ended = new AbortController();
    const partition = partitionOf('d1', 4);
    const waiting = events.read('hub', partition, 0, LIMIT, ended.signal);
    await intake.send(device('d1'), { deviceId: 'd1' }, [telemetry('x')]);
    expect((await waiting).length).toBe(1);
    const none = events.read('hub', partition, 1, LIMIT, ended.signal);
    ended.abort();
    expect(await none).toEqual([]);
  });

  it('says what it has, and refuses what there is not', async () => {
    expect(events.info('hub')).toMatchObject({ partitions: 4 });
    const partition = partitionOf('d1', 4);
    expect(await events.partition('hub', partition)).toMatchObject({
      beginSequenceNumber: 0,
      lastSequenceNumber: -1,
      lastEnqueuedTimeMs: Date.parse('0001-01-01T00:00:00Z'),
      isEmpty: true,
    });
    await intake.send(device('d1'), { deviceId: 'd1' }, [telemetry('x'), telemetry('y')]);
    expect(await events.partition('hub', partition)).toMatchObject({
      lastSequenceNumber: 1,
      lastOffset: 1,
      isEmpty: false,
    });
    expect(await events.locate('hub', partition, { kind: 'latest' })).toBe(2);
    expect(await refusal(events.partition('hub', 4))).toBe('AmqpAddressNotFound');
    expect(await refusal(events.read('hub', 9, 0, LIMIT, new AbortController().signal))).toBe('AmqpAddressNotFound');
    expect(() => events.info('other')).toThrow(expect.objectContaining({ code: 'GW_IOTHUB' }));
  });
});

describe('partitionOf', () => {
  it.each([2, 4, 7, 32])('spreads ids that differ in a digit over %i partitions', (partitions) => {
    const counts = Array<number>(partitions).fill(0);
    for (let index = 0; index < 1000 * partitions; index += 1) {
      const partition = partitionOf(`device-${index}`, partitions);
      counts[partition] = (counts[partition] ?? 0) + 1;
    }
    expect(Math.min(...counts)).toBeGreaterThan(700);
    expect(Math.max(...counts)).toBeLessThan(1300);
    expect(partitionOf('device-1', partitions)).toBe(partitionOf('device-1', partitions));
  });
});
