// The contract on a pseudo-terminal, with an instrument on its far end.

import { readdirSync, readlinkSync, realpathSync } from 'node:fs';
import type { AdapterContext } from '../../src/core/adapter.ts';
import type { DeviceId } from '../../src/core/device.ts';
import { createSerialAdapter } from '../../modules/serial/adapter.ts';
import { serialConfig } from '../../modules/serial/config.ts';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { serialLine } from '../support/serial-line.ts';
import { type AdapterSubject, describeAdapter } from '../conformance/adapter.suite.ts';

const SCALE = 'scale' as DeviceId;

/** How many times this process has a terminal open. */
function opens(path: string): number {
  const terminal = realpathSync(path);
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === terminal;
    } catch {
      return false;
    }
  }).length;
}

function scale(): (request: string) => string {
  let limit = '10';
  return (request) => {
    if (request === 'W') return 'W 12.5\r\n';
    if (request === 'L?') return `L ${limit}\r\n`;
    limit = request.slice(1);
    return 'OK\r\n';
  };
}

async function create(context: AdapterContext): Promise<AdapterSubject> {
  const line = await serialLine();
  const answer = scale();
  let isPlugged = true;
  let instrument = await SerialInstrument.open({ path: line.far, baudRate: 115_200, answer });
  const config = serialConfig.parse({
    path: line.near,
    devices: {
      [SCALE]: {
        requests: [
          { request: 'L?\r\n', decode: { kind: 'regex', pattern: '^L (?<limit>\\d+)$', types: { limit: 'integer' } } },
          { request: 'W\r\n', decode: { kind: 'regex', pattern: '^W (?<weight>.+)$', types: { weight: 'number' } } },
        ],
        poll_interval_ms: 50,
        timeout_ms: 150,
        retries: 0,
        circuit_breaker: { probe_interval_min_ms: 100, probe_interval_max_ms: 200 },
        points: { limit: { write: { template: 'L{value:d}\r\n', response: '^OK$' } } },
      },
    },
  });
  return {
    adapter: createSerialAdapter(config, context),
    point: { deviceId: SCALE, point: 'limit', value: 42 },
    readOnly: { deviceId: SCALE, point: 'weight', value: 1 },
    accepted: () => (isPlugged ? opens(line.near) : 0),
    silence() {
      instrument.answer = () => undefined;
    },
    async vanish() {
      if (!isPlugged) return;
      isPlugged = false;
      await instrument[Symbol.asyncDispose]();
      await line.unplug();
    },
    async restore() {
      if (!isPlugged) {
        await line.plug();
        instrument = await SerialInstrument.open({ path: line.far, baudRate: 115_200, answer });
        isPlugged = true;
      }
      instrument.answer = answer;
    },
    async dispose() {
      await instrument[Symbol.asyncDispose]();
      await line[Symbol.asyncDispose]();
    },
  };
}

describeAdapter('serial', create);
