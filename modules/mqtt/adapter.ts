// The adapter: configured devices, the dialects, and what carries them, a broker of our own or the connection to another.

import {
  abortable,
  errorText,
  GatewayError,
  shapedDevice,
  type Adapter,
  type AdapterContext,
  type DeviceId,
  type DeviceInfo,
  type HealthReport,
  type PointInfo,
  type PointWrite,
  type WriteResult,
} from '#sdk';
import { createAuthenticator, type Authenticator } from './authenticator.ts';
import { Broker } from './broker.ts';
import { Captures } from './capture.ts';
import type { MqttConfig } from './config.ts';
import { createConfiguredDialect } from './configured-dialect.ts';
import { Devices, type Describe } from './devices.ts';
import type { Dialect, Publish } from './dialect.ts';
import { createIntake, type Intake, type Witness } from './intake.ts';
import { createPreset } from './presets/presets.ts';
import { typicalPoints } from './presets/typical-points.ts';
import { RemoteBroker } from './remote-broker.ts';
import { onlyOf, Replay } from './replay.ts';
import { assertTopicName } from './topic-template.ts';
import { Writer } from './writer.ts';

/** What carries the traffic. */
interface Carrier {
  /** Resolves when it listens, or is on its way to another broker. */
  start(): Promise<unknown>;
  stop(signal: AbortSignal): Promise<void>;
  publish(publish: Publish): Promise<void>;
  health?(): HealthReport;
}

/** How often silent devices are looked for, as a part of the time that they may be silent. */
const SILENCE_LOOKS = 4;

export function createMqttAdapter(config: MqttConfig, context: AdapterContext): Adapter {
  return new MqttAdapter(config, context);
}

class MqttAdapter implements Adapter {
  readonly #config: MqttConfig;
  readonly #context: AdapterContext;
  readonly #infos: readonly DeviceInfo[];
  readonly #describe: Describe;
  readonly #devices: Devices;
  /** Those that a capture stands in for. */
  readonly #replayed: Devices;
  readonly #replays: readonly Replay[];
  readonly #captures: Captures;
  readonly #writer: Writer;
  readonly #carrier: Carrier;
  readonly #authenticator: Authenticator;
  readonly #stopping = new AbortController();
  #hashing: Promise<void> | undefined;
  #starting: Promise<void> | undefined;
  #health: HealthReport = { status: 'stopped' };
  #cancelLooks: () => void = () => {};
  #stopped: Promise<void> | undefined;

  constructor(config: MqttConfig, context: AdapterContext) {
    this.#config = config;
    this.#context = context;
    const configured = createConfiguredDialect(config);
    this.#describe = describer(config);
    this.#captures = new Captures(config.devices, context);
    const dialects = [configured, ...this.#createPresets()].map((dialect) => this.#captures.tap(dialect));
    const isReplayed = (deviceId: DeviceId): boolean => config.devices[deviceId]?.replay !== undefined;
    // What a device says that a capture stands in for does not mix with it.
    const addDevice: AdapterContext['addDevice'] = (info) =>
      isReplayed(info.deviceId) ? 'foreign_device' : context.addDevice(info);
    this.#devices = new Devices({ ...context, addDevice }, this.#describe);
    this.#replayed = new Devices(context, this.#describe);
    this.#replays = this.#createReplays(configured.points);
    const publish = async (message: Publish): Promise<void> => {
      assertTopicName(message.topic);
      await this.#carrier.publish(message);
    };
    this.#writer = new Writer(context.clock, publish);
    const intake = createIntake({
      context,
      dialects,
      devices: this.#devices,
      witness: this.#writer,
      ask: (message) => {
        publish(message).catch((error: unknown) =>
          context.log.debug({ topic: message.topic, error: errorText(error) }, 'A request to a device was not sent.'),
        );
      },
      configuredPoints: configured.points,
    });
    this.#infos = Object.keys(config.devices).map((id) => this.#describe(id as DeviceId, configured.points));
    const devices = this.#devices;
    this.#authenticator = createAuthenticator(config, context);
    this.#carrier =
      config.connect === undefined
        ? new Broker({
            config,
            context,
            state: context.state,
            authenticator: this.#authenticator,
            intake,
            devices,
          })
        : context.isOnDesk === true
          ? NO_CARRIER
          : new RemoteBroker({ config: config.connect, context, dialects, intake, devices });
  }

  #createPresets(): Dialect[] {
    return this.#config.presets.map((name) => createPreset(name, this.#context));
  }

  devices(): readonly DeviceInfo[] {
    return this.#infos;
  }

  typicalDevices(): readonly DeviceInfo[] {
    const { devices, presets, topics } = this.#config;
    const fallback = topics.some(({ points }) => points !== undefined) ? undefined : presets[0];
    return this.#infos.map((info) => {
      const preset = devices[info.deviceId]?.preset ?? fallback;
      return preset === undefined ? info : this.#describe(info.deviceId, typicalPoints(preset, info.deviceId));
    });
  }

  health(): HealthReport {
    if (this.#health.status !== 'running') return this.#health;
    const fault = this.#replays.find((replay) => replay.fault !== undefined)?.fault;
    if (fault !== undefined) return { status: 'degraded', reason: fault };
    return this.#carrier.health?.() ?? this.#health;
  }

  async start(): Promise<void> {
    this.#starting ??= this.#start();
    try {
      await this.#starting;
    } catch (error) {
      // A port that is taken may be free the next time.
      this.#starting = undefined;
      throw error;
    }
  }

  stop(signal: AbortSignal): Promise<void> {
    this.#stopped ??= this.#stop(signal);
    return this.#stopped;
  }

  checkWrite(write: PointWrite): void {
    this.#assertNotReplayed(write.deviceId);
    const device = this.#devices.get(write.deviceId);
    // One that was not heard is away.
    if (device !== undefined) this.#writer.check(device, write);
  }

  async write(write: PointWrite, signal: AbortSignal): Promise<WriteResult> {
    this.#assertNotReplayed(write.deviceId);
    const device = this.#devices.get(write.deviceId);
    if (device === undefined && this.#infos.some(({ deviceId }) => deviceId === write.deviceId)) {
      throw new GatewayError('GW_DEVICE_OFFLINE', `"${write.deviceId}" was not heard since the start.`);
    }
    return this.#writer.write(device, write, signal);
  }

  identify(deviceId: DeviceId): Promise<Readonly<Record<string, string>>> {
    const device = this.#devices.get(deviceId) ?? this.#replayed.get(deviceId);
    if (device === undefined || device.lastHeardMs === 0) {
      return Promise.reject(new GatewayError('GW_DEVICE_OFFLINE', `"${deviceId}" was not heard since the start.`));
    }
    return Promise.resolve({
      ...device.identity,
      spoken: device.dialect.name,
      last_heard: new Date(device.lastHeardWallMs).toISOString(),
    });
  }

  #assertNotReplayed(deviceId: DeviceId): void {
    if (this.#config.devices[deviceId]?.replay === undefined) return;
    const words = `"${deviceId}" is a capture that is played; nothing can be written to it.`;
    throw new GatewayError('GW_WRITE_REFUSED', words);
  }

  async #start(): Promise<void> {
    if (this.#stopped !== undefined) return;
    this.#health = { status: 'starting' };
    this.#hashing ??= this.#authenticator.hashPasswords(this.#stopping.signal);
    await this.#captures.open();
    if (this.#stopping.signal.aborted) return;
    await this.#carrier.start();
    for (const replay of this.#replays) replay.start();
    this.#health = { status: 'running' };
    this.#lookForSilence();
  }

  async #stop(signal: AbortSignal): Promise<void> {
    this.#stopping.abort();
    this.#writer.stop();
    // What it has opened by then is closed below.
    if (this.#starting !== undefined) await abortable(this.#starting, signal).catch(() => {});
    this.#cancelLooks();
    await Promise.all([this.#carrier.stop(signal), ...this.#replays.map((replay) => replay.stop())]);
    await this.#captures.close();
    await this.#hashing;
    this.#health = { status: 'stopped' };
  }

  #lookForSilence(): void {
    const silentMs = this.#config.silent_after_secs * 1000;
    if (silentMs === 0) return;
    this.#cancelLooks = this.#context.clock.after(silentMs / SILENCE_LOOKS, () => {
      this.#devices.expire(silentMs);
      this.#replayed.expire(silentMs);
      this.#lookForSilence();
    });
  }

  #createReplays(configuredPoints: readonly PointInfo[]): readonly Replay[] {
    const [config, context] = [this.#config, this.#context];
    return Object.entries(config.devices).flatMap(([id, { replay }]) => {
      if (replay === undefined) return [];
      const deviceId = id as DeviceId;
      const dialects = (): Dialect[] => [createConfiguredDialect(config), ...this.#createPresets()];
      const createFresh = (): Intake =>
        createIntake({
          context,
          dialects: dialects().map((dialect) => onlyOf(deviceId, dialect)),
          devices: this.#replayed,
          witness: NO_WITNESS,
          ask: () => {},
          configuredPoints,
        });
      return [new Replay({ deviceId, file: replay.file, context, createIntake: createFresh })];
    });
  }
}

/** On a desk, where another broker would lead to the machines of a plant. */
const NO_CARRIER: Carrier = {
  start: () => Promise.resolve(),
  stop: () => Promise.resolve(),
  publish: () =>
    Promise.reject(new GatewayError('GW_DISCONNECTED', 'All is simulated: the other broker is not connected to.')),
  health: () => ({ status: 'degraded', reason: 'All is simulated: the other broker is not connected to.' }),
};

/** Nobody writes to a capture. */
const NO_WITNESS: Witness = { reading: () => {}, answer: () => {} };

function describer(config: MqttConfig): Describe {
  // Scaled where they are decoded, so that a write can be turned back; not once more by the pipeline.
  const shapes = new Map(
    config.topics.flatMap(({ points = {} }) =>
      Object.entries(points).map(([name, { scale: _scale, offset: _offset, ...shape }]) => [name, shape] as const),
    ),
  );
  return (deviceId, points) =>
    shapedDevice({
      deviceId,
      points,
      pointConfig: (name) => shapes.get(name),
      device: config.devices[deviceId] ?? {},
      adapter: config,
    });
}
