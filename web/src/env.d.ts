/// <reference types="vite/client" />
declare module 'element-plus/es/components/*/style/css'

declare module 'vue' {
  interface SVGAttributes {
    [data: `data-${string}`]: unknown
  }
  interface HTMLAttributes {
    [data: `data-${string}`]: unknown
  }
}

export {}
