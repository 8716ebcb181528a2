import { describe, expect, it } from 'vitest';
import { createAutoTransport, type ProtocolCandidate } from '../../../../modules/upstream-iothub/auto-transport.ts';
import { iotHubUpstreamConfig, autoProtocols } from '../../../../modules/upstream-iothub/config.ts';
import type { EndpointClosed, UpstreamTransport } from '../../../../src/core/endpoint.ts';
import { GatewayError, type ErrorCode } from '../../../../src/core/errors.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait.ts';

const NEVER = new AbortController().signal;
const HOUR_MS = 3_600_000;

interface Candidate extends ProtocolCandidate {
  /** Why it does not open, or does not answer a bare connect. */
  fault: ErrorCode | GatewayError | undefined;
  opens: number;
  closes: number;
}

function candidate(name: string, opened: string[]): Candidate {
  let closed = Promise.withResolvers<EndpointClosed>();
  const check = (): Promise<void> => (one.fault === undefined ? Promise.resolve() : Promise.reject(errorOf(one.fault)));
  const errorOf = (fault: ErrorCode | GatewayError): GatewayError =>
    typeof fault === 'string' ? new GatewayError(fault, `${name} is shut.`) : fault;
  const transport: UpstreamTransport = {
    target: `${name}://hub`,
    capabilities: {
      negativeAcknowledgement: name !== 'mqtt_ws',
      window: 1,
      batchMessages: 1,
      multiplexesIdentities: true,
      twins: false,
      methods: false,
      commands: false,
    },
    probe: check,
    open: async () => {
      one.opens += 1;
      await check();
      opened.push(name);
      closed = Promise.withResolvers();
    },
    closed: () => closed.promise,
    send: (batch) => Promise.resolve(batch.map(() => ({ status: 'accepted' }))),
    close: () => {
      one.closes += 1;
      closed.resolve({ kind: 'transient', reason: 'closed' });
      return Promise.resolve();
    },
  };
  const one: Candidate = { name, transport, fault: undefined, opens: 0, closes: 0 };
  return one;
}

function rig() {
  const clock = new ManualClock();
  const warnings: unknown[] = [];
  const log = {
    debug() {},
    info() {},
    warn: (fields: unknown) => void warnings.push(fields),
    error() {},
    child: () => log,
  };
  const opened: string[] = [];
  const [amqp, amqpWs, mqttWs] = [
    candidate('amqp', opened),
    candidate('amqp_ws', opened),
    candidate('mqtt_ws', opened),
  ];
  return {
    clock,
    opened,
    warnings,
    amqp,
    amqpWs,
    mqttWs,
    auto: createAutoTransport([amqp, amqpWs, mqttWs], { clock, log }),
  };
}

describe('the choice among protocols', () => {
  it('takes the best, says nothing of it, and looks for nothing else', async () => {
    const { auto, clock, opened } = rig();
    await auto.open(NEVER);
    expect([opened, auto.target, auto.note]).toEqual([['amqp'], 'amqp://hub', undefined]);
    clock.advance(24 * HOUR_MS);
    expect(opened).toEqual(['amqp']);
  });

  it('takes the next one where one does not connect, with the reason shown, and first again after a loss', async () => {
    const { auto, amqp, amqpWs, opened, warnings } = rig();
    amqp.fault = 'GW_CONNECT';
    amqpWs.fault = 'GW_TLS';
    await auto.probe(NEVER);
    await auto.open(NEVER);
    expect([auto.target, auto.capabilities.negativeAcknowledgement]).toEqual(['mqtt_ws://hub', false]);
    expect(auto.note).toBe('Connected over mqtt_ws. amqp: amqp is shut. amqp_ws: amqp_ws is shut.');
    expect(warnings).toHaveLength(1);
    await auto.close();
    await auto.open(NEVER);
    expect(opened).toEqual(['mqtt_ws', 'mqtt_ws']);
    expect([amqp.opens, auto.note?.startsWith('Connected over mqtt_ws')]).toEqual([1, true]);
  });

  it('goes back to a better one after a while, and stays where that does not open', async () => {
    const { auto, amqp, amqpWs, clock, opened } = rig();
    amqp.fault = 'GW_CONNECT';
    await auto.open(NEVER);
    clock.advance(6 * 60_000);
    expect(amqpWs.closes).toBe(0);
    amqp.fault = undefined;
    const closed = auto.closed();
    await waitFor(() => {
      clock.advance(HOUR_MS);
      return amqpWs.closes === 1;
    });
    await closed;
    // A bare connect went through, more does not.
    amqp.fault = 'GW_PROTOCOL';
    await auto.open(NEVER);
    expect(opened).toEqual(['amqp_ws', 'amqp_ws']);
    amqp.fault = undefined;
    const again = auto.closed();
    await waitFor(() => {
      clock.advance(HOUR_MS);
      return amqpWs.closes === 2;
    });
    await again;
    await auto.open(NEVER);
    expect([opened.at(-1), auto.note]).toEqual(['amqp', undefined]);
  });

  it('does not try others where the hub answers and refuses, and fails with all reasons where none connects', async () => {
    const { auto, amqp, amqpWs, mqttWs } = rig();
    amqp.fault = 'GW_UNAUTHORIZED';
    await expect(auto.open(NEVER)).rejects.toMatchObject({ code: 'GW_UNAUTHORIZED' });
    expect([amqpWs.opens, mqttWs.opens]).toEqual([0, 0]);
    for (const one of [amqp, amqpWs, mqttWs]) one.fault = 'GW_CONNECT';
    await expect(auto.probe(NEVER)).rejects.toMatchObject({ code: 'GW_CONNECT' });
    await expect(auto.open(NEVER)).rejects.toMatchObject({
      code: 'GW_CONNECT',
      message: 'amqp: amqp is shut. amqp_ws: amqp_ws is shut. mqtt_ws: mqtt_ws is shut.',
    });
  });

  it('tries others where a proxy on the way refuses the port, which the hub never heard of', async () => {
    const { auto, amqp, amqpWs } = rig();
    amqp.fault = new GatewayError('GW_UNAUTHORIZED', 'The proxy does not allow it.', {
      details: { isForTarget: true },
    });
    await auto.open(NEVER);
    expect(amqpWs.opens).toBe(1);
    expect(auto.note).toContain('The proxy does not allow it.');
  });

  it('has MQTT only where that changes nobody’s identity', () => {
    const KEY = Buffer.alloc(32, 7).toString('base64');
    const of = (leaf_devices: object): readonly string[] =>
      autoProtocols(
        iotHubUpstreamConfig.parse({ host_name: 'h', shared_access_key: KEY, protocol: 'auto', leaf_devices }),
      );
    expect(of({})).toEqual(['amqp', 'amqp_ws', 'mqtt_ws']);
    expect(of({ identity: 'group_key', group_key: KEY })).toEqual(['amqp', 'amqp_ws']);
    expect(of({ identity: 'group_key', group_key: KEY, per_device: true })).toEqual(['amqp', 'amqp_ws', 'mqtt_ws']);
  });
});
