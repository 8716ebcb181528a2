// The composition root with real parts: memory outbox, scripted endpoints, adapters that the test drives.

import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { loadConfigText } from '../../../src/config/load.ts';
import { ModuleCatalogue } from '../../../src/config/schema.ts';
import type { GatewayConfig } from '../../../src/config/config.ts';
import type { Adapter, AdapterContext } from '../../../src/core/adapter.ts';
import { parseDeviceId } from '../../../src/core/device.ts';
import type { UpstreamTransport } from '../../../src/core/endpoint.ts';
import type { ModuleDefinition } from '../../../src/core/module.ts';
import { GOOD } from '../../../src/core/reading.ts';
import { Gateway } from '../../../src/gateway.ts';
import { silentLogger } from '../../../src/observe/logger.ts';
import { checkCondition } from '../../../src/pipeline/condition.ts';
import { SystemClock } from '../../../src/platform/clock.ts';
import { systemRandom } from '../../../src/platform/random.ts';
import { defineAdapter, defineUpstream } from '../../../src/sdk/define.ts';
import { createMemoryOutbox } from '../../../src/store/memory-outbox.ts';
import { timestamp } from '../../support/builders.ts';
import { ScriptedEndpoint } from '../../support/scripted-endpoint.ts';
import { waitFor } from '../../support/wait.ts';
import { memoryStateStore } from '../../support/state.ts';

interface Made {
  readonly adapters: { readonly id: string; readonly context: AdapterContext; stopped: boolean }[];
  readonly endpoints: Map<string, ScriptedEndpoint[]>;
}

function modules(made: Made): readonly ModuleDefinition[] {
  const adapter = defineAdapter({
    type: 'test',
    config: z.strictObject({ speed: z.number().default(1), devices: z.record(z.string(), z.object({})).default({}) }),
    load:
      async () =>
      (config, context): Adapter => {
        const entry = { id: context.adapterId, context, stopped: false };
        made.adapters.push(entry);
        return {
          devices: () => Object.keys(config.devices).map((id) => ({ deviceId: parseDeviceId(id), points: [] })),
          start: () => Promise.resolve(),
          stop: () => {
            entry.stopped = true;
            return Promise.resolve();
          },
          health: () => ({ status: 'running' }),
        };
      },
  });
  const upstream = defineUpstream({
    type: 'scripted',
    config: z.strictObject({ fails: z.boolean().default(false) }),
    load:
      async () =>
      (config, { endpointName }): UpstreamTransport => {
        if (config.fails) throw new Error('The certificate cannot be read.');
        const endpoint = new ScriptedEndpoint();
        made.endpoints.set(endpointName, [...(made.endpoints.get(endpointName) ?? []), endpoint]);
        return endpoint as unknown as UpstreamTransport;
      },
  });
  return [adapter, upstream];
}

describe('gateway', () => {
  const running: Gateway[] = [];
  afterEach(async () => {
    for (const gateway of running.splice(0)) await gateway.stop();
  });

  function setup() {
    const made: Made = { adapters: [], endpoints: new Map() };
    const list = modules(made);
    const parse = (text: string): GatewayConfig => {
      const options = { catalogue: new ModuleCatalogue(list), file: 'test.yaml', checkCondition };
      const result = loadConfigText(`gateway: { id: plant-7 }\n${text}`, options);
      if (!result.ok) throw new Error(JSON.stringify(result.faults));
      return result.loaded.config;
    };
    const start = async (text: string): Promise<Gateway> => {
      const clock = new SystemClock();
      const gateway = await Gateway.start({
        config: parse(text),
        modules: list,
        heads: [],
        env: {},
        openOutbox: ({ gatewayId, outbox }, { queues }) =>
          Promise.resolve(
            createMemoryOutbox({
              gatewayId,
              clock,
              random: systemRandom,
              settings: { ...outbox, minFreeBytes: 0 },
              queues,
            }),
          ),
        clock,
        random: systemRandom,
        log: silentLogger,
        telemetry: { emit: () => {} },
        meters: { exchange: () => {}, poll: () => {} },
        dataDirectory: '/nowhere',
        captureDirectory: '/nowhere',
        openState: memoryStateStore,
      });
      running.push(gateway);
      return gateway;
    };
    const publish = (id: string, device: string, value: number): void => {
      const adapter = made.adapters.findLast((one) => one.id === id);
      const readings = [{ point: 'v', value, quality: GOOD }];
      adapter?.context.publishReadings({ deviceId: parseDeviceId(device), time: timestamp(), readings });
    };
    const values = (name: string): number[] =>
      (made.endpoints.get(name) ?? [])
        .flatMap(({ accepted }) => accepted)
        .map((text) => (JSON.parse(text) as { values?: { v: number } }).values?.v ?? Number.NaN);
    return { made, parse, start, publish, values };
  }

  it('takes in no device that shows itself under the id of the gateway', async () => {
    const { made, start } = setup();
    await start('adapters: { broker: { type: test, devices: { a: {} } } }');
    const add = (id: string): unknown =>
      made.adapters[0]?.context.addDevice({ deviceId: parseDeviceId(id), points: [] });
    expect([add('plant-7'), add('plant-8')]).toEqual(['foreign_device', undefined]);
  });

  const TWO = 'adapters: { a: { type: test, devices: { d1: {} } }, b: { type: test, devices: { d2: {} } } }\n';

  it('carries readings of every adapter to every endpoint that its routes name', async () => {
    const { start, publish, values } = setup();
    await start(
      `${TWO}upstream: { type: scripted }\nendpoints: { other: { type: scripted } }\nroutes: [{ name: one, condition: "$connectionDeviceId = 'd2'", endpoint: other }]\n`,
    );
    publish('a', 'd1', 1);
    publish('b', 'd2', 2);
    await waitFor(() => values('$upstream').length === 1 && values('other').length === 1);
    expect([values('$upstream'), values('other')]).toEqual([[1], [2]]);
  });

  it('restarts only what a change touches, and loses nothing over it', async () => {
    const { made, parse, start, publish, values } = setup();
    const gateway = await start(`${TWO}upstream: { type: scripted }\n`);
    publish('a', 'd1', 1);
    await waitFor(() => values('$upstream').length === 1);
    await gateway.apply(
      parse(`${TWO.replace('devices: { d2', 'speed: 2, devices: { d2')}upstream: { type: scripted }\n`),
    );
    expect(made.adapters.map(({ id, stopped }) => [id, stopped])).toEqual([
      ['a', false],
      ['b', true],
      ['b', false],
    ]);
    expect(made.endpoints.get('$upstream')).toHaveLength(1);
    publish('b', 'd2', 2);
    await waitFor(() => values('$upstream').length === 2);
    await gateway.apply(
      parse('adapters: { a: { type: test, devices: { d1: {} } } }\nupstream: { type: scripted, order: strict }\n'),
    );
    expect(made.adapters.at(-1)?.stopped).toBe(true);
    expect(gateway.registry.list().map(({ deviceId }) => deviceId)).toEqual(['d1']);
    publish('a', 'd1', 3);
    await waitFor(() => values('$upstream').length === 3);
    expect(values('$upstream')).toEqual([1, 2, 3]);
    expect(made.endpoints.get('$upstream')).toHaveLength(2);
  });

  it('keeps what waits for an endpoint that is switched off, and delivers it when it is on again', async () => {
    const { parse, start, publish, values } = setup();
    const gateway = await start(`${TWO}upstream: { type: scripted, enabled: false }\n`);
    publish('a', 'd1', 1);
    await waitFor(() => gateway.outbox.stats().messages === 1);
    expect(gateway.endpoints()).toEqual([]);
    await gateway.apply(parse(`${TWO}upstream: { type: scripted }\n`));
    await waitFor(() => values('$upstream').length === 1);
  });

  it('shows an endpoint that cannot be built, keeps its messages, and goes on', async () => {
    const { parse, start, publish, values } = setup();
    const gateway = await start(`${TWO}upstream: { type: scripted, fails: true }\n`);
    publish('a', 'd1', 1);
    await waitFor(() => gateway.outbox.stats().messages === 1);
    expect(gateway.failedParts()).toMatchObject([
      { part: 'endpoint $upstream', report: { status: 'failed', reason: 'The certificate cannot be read.' } },
    ]);
    await gateway.apply(parse(`${TWO}upstream: { type: scripted }\n`));
    expect(gateway.failedParts()).toEqual([]);
    await waitFor(() => values('$upstream').length === 1);
  });

  it('stores what came in before it stops, once for every caller', async () => {
    const { made, start, publish } = setup();
    const gateway = await start(`${TWO}upstream: { type: scripted }\n`);
    const endpoint = (): ScriptedEndpoint | undefined => made.endpoints.get('$upstream')?.[0];
    await waitFor(() => endpoint()?.opens === 1);
    publish('a', 'd1', 1);
    const stopped = gateway.stop();
    expect(gateway.stop()).toBe(stopped);
    await stopped;
    expect(made.adapters.every((adapter) => adapter.stopped)).toBe(true);
    await expect(gateway.outbox.append([])).rejects.toMatchObject({ code: 'GW_STORE_CLOSED' });
  });
});
