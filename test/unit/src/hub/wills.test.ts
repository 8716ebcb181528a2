import { beforeEach, describe, expect, it } from 'vitest';
import type { TelemetryIntake } from '../../../../src/core/hub/messaging.ts';
import type { TelemetryMessage } from '../../../../src/core/hub/telemetry-message.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { iotHubError } from '../../../../src/iothub/errors.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { waitFor } from '../../../support/wait.ts';

const d1 = { deviceId: 'd1' };
const will: TelemetryMessage = {
  body: Buffer.from('gone'),
  properties: { 'iothub-MessageType': 'Will' },
  systemProperties: { contentType: 'text/plain' },
};

let rig: HubRig;
let sent: string[];
/** What the log of telemetry answers. */
let refusal: Error | undefined;
let attempts: number;
let told: string[];

const telemetryIntake: TelemetryIntake = {
  send(principal, from, messages) {
    attempts += 1;
    if (refusal !== undefined) return Promise.reject(refusal);
    for (const { body, properties } of messages) {
      const text = Buffer.from(body).toString();
      sent.push([from.deviceId, principal.authMethod.includes('sas'), text, properties['iothub-MessageType']].join());
    }
    return Promise.resolve();
  },
};
const telemetry = { emit: (event: string) => void told.push(event) };

/** The hub of the same store, after a kill. */
const restarted = (): Promise<HubRig> => hubRig({ state: rig.state, clock: rig.clock, telemetryIntake, telemetry });

async function keptWills(): Promise<number> {
  let count = 0;
  for await (const _ of rig.state.space(`hub/${HUB}`).entries('w/')) count += 1;
  return count;
}

beforeEach(async () => {
  sent = [];
  attempts = 0;
  told = [];
  refusal = undefined;
  rig = await hubRig({ telemetryIntake, telemetry });
  await rig.hub.identities.putDevice(HUB, d1, undefined);
});

describe('a will', () => {
  it('is sent when its client is lost, or another takes its place', async () => {
    const first = await rig.connect(d1, { will });
    expect(await keptWills()).toBe(1);
    const second = await rig.connect(d1, { will });
    await waitFor(() => sent.length === 1);
    expect(sent).toEqual(['d1,true,gone,Will']);
    rig.hub.sessions.close(second.sessionId, 'lost');
    rig.hub.sessions.close(first.sessionId, 'lost');
    await waitFor(async () => sent.length === 2 && (await keptWills()) === 0);
  });

  it.each(['closed', 'stopping', 'disabled'] as const)('is forgotten when its session ends as %s', async (reason) => {
    const { sessionId } = await rig.connect(d1, { will });
    if (reason === 'stopping') await rig.hub.stop();
    else if (reason === 'disabled') await rig.hub.identities.putDevice(HUB, { ...d1, status: 'disabled' }, '*');
    else rig.hub.sessions.close(sessionId, reason);
    await waitFor(async () => (await keptWills()) === 0);
    expect(sent).toEqual([]);
  });

  it('of a client of a hub that was killed is sent at the next start, once', async () => {
    await rig.connect(d1, { will });
    await restarted();
    await waitFor(async () => sent.length === 1 && (await keptWills()) === 0);
    await restarted();
    expect(sent).toEqual(['d1,true,gone,Will']);
  });

  it('is not sent for a device that is gone by then', async () => {
    await rig.connect(d1, { will });
    await rig.state.space(`hub/${HUB}`).write([{ key: 'd/d1' }]);
    await restarted();
    await waitFor(async () => (await keptWills()) === 0);
    expect(sent).toEqual([]);
  });

  it('waits in the store while the log takes nothing', async () => {
    const { sessionId } = await rig.connect(d1, { will });
    refusal = iotHubError('ServiceUnavailable', 'away');
    rig.hub.sessions.close(sessionId, 'lost');
    await waitFor(() => attempts === 1);
    await waitFor(() => {
      rig.clock.advance(15_000);
      return attempts > 2;
    });
    expect(await keptWills()).toBe(1);
    refusal = undefined;
    await waitFor(async () => {
      rig.clock.advance(15_000);
      return sent.length === 1 && (await keptWills()) === 0;
    });
    expect(told).toEqual([]);
  });

  it('that the hub would never take is given up, and told', async () => {
    const { sessionId } = await rig.connect(d1, { will });
    refusal = iotHubError('MessageTooLarge', 'too large');
    rig.hub.sessions.close(sessionId, 'lost');
    await waitFor(async () => (await keptWills()) === 0);
    expect(told).toEqual(['hub_will_lost']);
  });

  it('that cannot be kept lets nobody in', async () => {
    const large = { ...will, body: Buffer.alloc(LIMITS.state_value_bytes + 1) };
    expect(await refusalOf(rig.connect(d1, { will: large }))).toBeDefined();
    expect(rig.hub.sessionsOf(HUB)).toEqual([]);
    expect(sent).toEqual([]);
  });
});
