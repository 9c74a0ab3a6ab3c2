// For the JupyterLab extension, which draws the same dashboard in its panel.
export function bytes(count: number): string;
export function draw(element: HTMLElement, state: object | null): void;
export function shortName(model: string): string;
