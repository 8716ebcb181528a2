// Addresses from templates such as `fieldpost.{device_id}`.

import type { DeviceId } from '#sdk';

type Placeholder = 'gateway_id' | 'device_id';
const PLACEHOLDER_PATTERN = /\{([^{}]*)\}/g;
/** An id has at most 128; brokers take 255 bytes for a name (RabbitMQ, JMS). */
const ADDRESS_MAX_CHARS = 1024;

/** What is wrong with a template, as a sentence part for a configuration fault; undefined when nothing is. */
export function addressTemplateFault(template: string, allowed: readonly Placeholder[]): string | undefined {
  for (const [whole, name] of template.matchAll(PLACEHOLDER_PATTERN)) {
    if (!allowed.some((placeholder) => placeholder === name)) {
      return `unknown placeholder ${whole}; allowed: ${allowed.map((placeholder) => `{${placeholder}}`).join(', ')}`;
    }
  }
  if (/[{}]/.test(template.replaceAll(PLACEHOLDER_PATTERN, ''))) {
    return 'a brace stands alone; placeholders look like {device_id}';
  }
  if (template === '') return 'an address must have at least one character';
  if (template.length > ADDRESS_MAX_CHARS) return `an address has at most ${ADDRESS_MAX_CHARS} characters`;
  return undefined;
}

/** Whether each device has an address of its own. */
export function hasDevice(template: string): boolean {
  return template.includes('{device_id}');
}

/** Fills a template that has no fault. */
export function fillAddress(template: string, gatewayId: DeviceId, deviceId?: string): string {
  return template.replaceAll(PLACEHOLDER_PATTERN, (_whole, name: string) =>
    name === 'gateway_id' ? gatewayId : (deviceId ?? ''),
  );
}
