// What the configuration of one device comes to: what is asked for or listened to, how it is decoded, and its points.

import { compilePattern } from '#sdk';
import type { AskConfig, DeviceConfig, MatchConfig, SerialConfig } from './config.ts';
import { bytesOf } from './bytes.ts';
import type { ChecksumSettings } from './checksum.ts';
import { createDecoder } from './decode.ts';
import type { Decoder } from './decoded.ts';
import { escapeSlip } from './framing.ts';
import { createPoint, type Point } from './point.ts';
import { parseTemplate, type Template } from './template.ts';

/** One thing that is asked for, or listened to. */
export interface Source {
  /** The bytes of the request as they go out; undefined: the device speaks by itself. */
  readonly request: Buffer | undefined;
  readonly decoder: Decoder;
  readonly accepts: (frame: Buffer) => boolean;
  /** Whether decoding finds a value in a frame. */
  readonly understands: (frame: Buffer) => boolean;
  /** The same for all requests on the line whose answers `accepts` does not tell from each other; undefined: it tells its own. */
  readonly alike: string | undefined;
  readonly periodMs: number;
  readonly timeoutMs: number;
  readonly points: readonly Point[];
}

export interface DevicePlan {
  readonly sources: readonly Source[];
  /** All points by name, those that can only be written included. */
  readonly points: ReadonlyMap<string, Point>;
  /** Whether a frame may be the device's answer to a write. */
  readonly accepts: (frame: Buffer) => boolean;
  /** Whether `accepts` tells its frames from those of other devices. */
  readonly isTold: boolean;
  /** The bytes of a template as they go out, or why a value cannot be written so. */
  readonly render: (template: Template, value?: string | number | bigint | boolean | Uint8Array) => Buffer | string;
}

/** The checksum as the framer and the templates want it. */
export function checksumSettings({ checksum }: Pick<SerialConfig, 'checksum'>): ChecksumSettings | undefined {
  if (checksum === undefined) return undefined;
  return {
    kind: checksum.kind,
    fromByte: checksum.from_byte,
    gapBytes: checksum.gap_bytes,
    afterBytes: checksum.after_bytes,
    encoding: checksum.encoding,
    order: checksum.order ?? (checksum.kind === 'crc16_modbus' ? 'little' : 'big'),
  };
}

/** What a device is asked for, one entry each; a device that speaks by itself has none. */
export function asksOf(device: DeviceConfig): readonly AskConfig[] {
  if (device.requests !== undefined) return device.requests;
  if (device.request === undefined || device.decode === undefined) return [];
  return [{ request: device.request, decode: device.decode }];
}

/** The configuration has passed the check. */
export function planDevice(config: DeviceConfig, adapter: SerialConfig): DevicePlan {
  const checksum = checksumSettings(adapter);
  const address = config.address === undefined ? undefined : bytesOf(config.address);
  const isSlip = adapter.framing.kind === 'slip';
  const points = new Map<string, Point>();
  const asks = asksOf(config);
  const matches = Object.values(adapter.devices).flatMap((device) =>
    asksOf(device).map((ask) => matchText(ask, device)),
  );

  const render: DevicePlan['render'] = (template, value = '') => {
    const bytes = template.render({ address, value, checksum });
    return typeof bytes === 'string' || !isSlip ? bytes : escapeSlip(bytes);
  };

  function sourceOf(ask: Omit<AskConfig, 'request'>, request: Buffer | undefined): Source {
    const decoder = createDecoder(ask.decode);
    const scales = ask.decode.kind === 'layout' ? ask.decode.fields : {};
    const own = [...decoder.points].map(([name, place]) =>
      createPoint({
        name,
        address: place,
        config: config.points[name],
        decode: ask.decode,
        scale: scales[name]?.scale,
      }),
    );
    for (const point of own) points.set(point.name, point);
    return {
      request,
      decoder,
      accepts: matcher(ask.match ?? config.match),
      alike: alikeIn(matches, matchText(ask, config)),
      understands(frame) {
        const decoded = decoder.decode(frame);
        return decoded.kind === 'values' && [...decoded.values.values()].some((value) => 'value' in value);
      },
      periodMs: ask.poll_interval_ms ?? config.poll_interval_ms,
      timeoutMs: ask.timeout_ms ?? config.timeout_ms,
      points: own,
    };
  }

  const sources = asks.map((ask) => {
    const template = parseTemplate(ask.request);
    const request = typeof template === 'string' ? template : render(template);
    return sourceOf(ask, typeof request === 'string' ? Buffer.alloc(0) : request);
  });
  if (sources.length === 0 && config.decode !== undefined) sources.push(sourceOf({ decode: config.decode }, undefined));
  for (const [name, point] of Object.entries(config.points)) {
    if (!points.has(name))
      points.set(
        name,
        createPoint({ name, address: 'write only', config: point, decode: undefined, scale: undefined }),
      );
  }
  return { sources, points, accepts: matcher(config.match), isTold: config.match !== undefined, render };
}

function matchText(ask: Pick<AskConfig, 'match'>, device: DeviceConfig): string {
  return JSON.stringify(ask.match ?? device.match ?? '');
}

function alikeIn(matches: readonly string[], own: string): string | undefined {
  return matches.filter((match) => match === own).length > 1 ? own : undefined;
}

function matcher(match: MatchConfig | undefined): (frame: Buffer) => boolean {
  if (match === undefined) return () => true;
  if (typeof match === 'string') {
    const pattern = compilePattern(match);
    return typeof pattern === 'string' ? () => false : (frame) => pattern.test(frame.toString('latin1'));
  }
  const bytes = bytesOf(match.bytes);
  return (frame) => frame.subarray(match.offset, match.offset + bytes.length).equals(bytes);
}
