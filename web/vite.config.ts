import vue from '@vitejs/plugin-vue'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

// For `npm run dev` only: the front door of a running stack (`wardstream status` prints its port).
const frontDoor = process.env.WARDSTREAM_FRONT ?? 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [vue()],
  test: { environment: 'node', include: ['src/**/*.test.ts'] },
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: {
    // Ward PCs that cannot be renewed stop at Chrome 107.
    target: 'chrome107',
    // The content policy allows no inline code and no data: scripts, so nothing is inlined.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: true,
    rollupOptions: {
      output: {
        manualChunks: (id) => (/node_modules\/(vue|@vue|vue-router|pinia)\//.test(id) ? 'vue' : undefined),
      },
    },
  },
  server: { proxy: { '/api': { target: frontDoor, changeOrigin: true } } },
})
