// The only door for modules: contracts, core types, thin wire wrappers, Azure conventions. No logic of its own.

export * from '../core/adapter.ts';
export * from '../core/admin.ts';
export * from '../core/clock.ts';
export * from '../core/delivery.ts';
export * from '../core/device.ts';
export * from '../core/endpoint.ts';
export * from '../core/errors.ts';
export * from '../core/http-status.ts';
export * from '../core/limits.ts';
export * from '../core/log.ts';
export * from '../core/message.ts';
export * from '../core/module.ts';
export * from '../core/outbox.ts';
export * from '../core/pem.ts';
export * from '../core/reading.ts';
export * from '../core/service.ts';
export * from '../core/time.ts';
export type { Telemetry } from '../observe/events.ts';
export * from '../platform/abort.ts';
export * from '../platform/random.ts';
export * from '../iothub/system-properties.ts';
export * from '../wire/capture.ts';
export * from '../wire/dial.ts';
export * from '../wire/mqtt.ts';
export * from './define.ts';
export * from './stand-in-fields.ts';
