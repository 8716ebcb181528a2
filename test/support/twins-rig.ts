// The twins of an upstream transport with a real dispatcher and registry, over state in memory and a device whose answers the test
// decides.

import type { Adapter, PointWrite, WriteResult } from '../../src/core/adapter.ts';
import type { Clock } from '../../src/core/clock.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { GOOD } from '../../src/core/reading.ts';
import { createDeviceRegistry, type DeviceRegistry } from '../../src/devices/device-registry.ts';
import { createDispatcher, type Dispatcher } from '../../src/devices/dispatcher.ts';
import { systemRandom } from '../../src/platform/random.ts';
import type { StateStore } from '../../src/store/state/state-store.ts';
import { attachDownlink } from '../../src/upstream/downlink.ts';
import { attachTwins, type UpstreamTwins } from '../../src/upstream/twins.ts';
import { GATEWAY_ID, recordingTelemetry, type RecordingTelemetry } from './upstream-rig.ts';

export const METER = parseDeviceId('meter-1');

export interface TwinsRig {
  readonly registry: DeviceRegistry;
  readonly dispatcher: Dispatcher;
  readonly telemetry: RecordingTelemetry;
  readonly twins: UpstreamTwins | undefined;
  readonly written: PointWrite[];
  /** What the device does with a write. */
  device: (write: PointWrite) => Promise<WriteResult>;
}

/** `meter-1` has `relay`, `level` (0 to 100) and `count`, which cannot be written; it is good. */
export function attachTwinsRig(transport: UpstreamTransport, state: StateStore, clock: Clock): TwinsRig {
  const telemetry = recordingTelemetry();
  const written: PointWrite[] = [];
  const adapter: Adapter = {
    devices: () => [],
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    health: () => ({ status: 'running' }),
    write: (write) => {
      written.push(write);
      return rig.device(write);
    },
  };
  const registry = createDeviceRegistry(clock, { emit: () => {} });
  const point = (name: string, fields = {}) => ({ name, address: name, writable: true, ...fields });
  const points = [
    point('relay'),
    point('level', { writeRules: { min: 0, max: 100 } }),
    point('count', { writable: false }),
  ];
  registry.setAdapter('bus', [{ deviceId: METER, points }]);
  registry.report(METER, 'good');
  const dispatcher = createDispatcher({
    registry,
    adapterOf: () => adapter,
    clock,
    telemetry,
    commands: state.space('commands'),
    audit: state.space('audit'),
    writeRates: state.space('write-rates'),
  });
  const twins = attachTwins(transport, {
    name: '$upstream',
    gatewayId: GATEWAY_ID,
    space: state.space('upstream-twins'),
    registry,
    dispatcher,
    clock,
    random: systemRandom,
    telemetry,
  });
  attachDownlink(transport, {
    name: '$upstream',
    gatewayId: GATEWAY_ID,
    dispatcher,
    telemetry,
    onWritten: (deviceId, values) => twins?.confirmed(deviceId, values),
  });
  const rig: TwinsRig = {
    registry,
    dispatcher,
    telemetry,
    twins,
    written,
    device: ({ value }) => Promise.resolve({ readBack: value, quality: GOOD }),
  };
  return rig;
}
